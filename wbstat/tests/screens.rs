//! The screens, compared with stored ones: `cargo insta review` shows the differences.

mod fixture;

use fixture::{app, samples};
use ratatui::{
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent},
    Terminal,
};
use wbstat::{
    app::{App, Dialog},
    sample::Sample,
    ui::{draw, Look},
};

const PLAIN: Look = Look { colour: false, ascii: false };
const ASCII: Look = Look { colour: false, ascii: true };
const COLOUR: Look = Look { colour: true, ascii: false };

fn screen(app: &App, look: Look, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app, look)).unwrap();
    terminal.backend().to_string()
}

fn press(app: &mut App, keys: &str) {
    for c in keys.chars() {
        app.key(KeyEvent::from(if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) }));
    }
}

#[test]
fn overview() {
    insta::assert_snapshot!("80x24", screen(&app(), PLAIN, 80, 24));
    insta::assert_snapshot!("200x60", screen(&app(), PLAIN, 200, 60));
    insta::assert_snapshot!("80x24_ascii", screen(&app(), ASCII, 80, 24));
}

#[test]
fn all_about_one() {
    let mut app = app();
    press(&mut app, "jj\n");
    insta::assert_snapshot!("details_80x24", screen(&app, PLAIN, 80, 24));
    insta::assert_snapshot!("details_120x40", screen(&app, ASCII, 120, 40));
}

#[test]
fn dialogs() {
    let mut app = app();
    press(&mut app, "?");
    insta::assert_snapshot!("help", screen(&app, ASCII, 80, 24));
    press(&mut app, "xt");
    insta::assert_snapshot!("choose", screen(&app, ASCII, 80, 24));
    press(&mut app, "\n101\n");
    insta::assert_snapshot!("refused", screen(&app, ASCII, 80, 24));
    app.dialog = Some(Dialog::Confirm { option: 0, value: "70".into() });
    insta::assert_snapshot!("confirm", screen(&app, ASCII, 80, 24));
}

#[test]
fn nothing_to_see() {
    let mut none = App::new(1.0, false);
    none.see(&Sample { at_ms: 1_000_000, volumes: Vec::new() });
    insta::assert_snapshot!("no_volumes", screen(&none, PLAIN, 80, 24));
    none.fail("you need to be root".to_owned());
    insta::assert_snapshot!("error", screen(&none, PLAIN, 80, 24));
    insta::assert_snapshot!("too_small", screen(&app(), PLAIN, 30, 5));
    let mut paused = app();
    press(&mut paused, "p");
    assert!(screen(&paused, PLAIN, 80, 24).contains("PAUSED"));
}

#[test]
fn only_ascii_when_asked_for() {
    for (width, height) in [(80, 24), (200, 60)] {
        let mut app = app();
        for keys in ["", "\n", "?", "xt"] {
            press(&mut app, keys);
            // The test backend quotes each line itself.
            let text = screen(&app, ASCII, width, height);
            assert!(text.is_ascii(), "{:?}", text.chars().find(|c| !c.is_ascii()));
        }
    }
}

#[test]
fn colour_says_nothing_alone() {
    let mut app = app();
    for keys in ["", "\n"] {
        press(&mut app, keys);
        assert_eq!(screen(&app, PLAIN, 120, 40), screen(&app, COLOUR, 120, 40), "the same characters");
    }
    let text = screen(&app, PLAIN, 120, 40);
    for word in ["degraded", "fault: backing_write"] {
        press(&mut app, "j");
        assert!(text.contains(word) || screen(&app, PLAIN, 120, 40).contains(word), "{word}");
    }
}

#[test]
fn any_size() {
    let mut views = vec![app()];
    for keys in ["\n", "?", "t", "t\n101\n"] {
        let mut app = app();
        press(&mut app, keys);
        views.push(app);
    }
    let mut none = App::new(1.0, false);
    none.fail("x".repeat(500));
    views.push(none);
    for app in &views {
        for width in (1..=210).step_by(7) {
            for height in (1..=65).step_by(3) {
                screen(app, COLOUR, width, height);
            }
        }
        for (width, height) in [(40, 10), (41, 11), (1, 1), (210, 65)] {
            screen(app, ASCII, width, height);
        }
    }
    assert_eq!(samples().len(), 40);
}
