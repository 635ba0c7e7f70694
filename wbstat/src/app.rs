// SPDX-License-Identifier: GPL-2.0-only

//! The state of the dashboard, and its changes by keys and by samples, without a terminal.

use crate::{
    rates::Rates,
    sample::{Sample, VolumeSample},
    tunables,
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept for the curves: ten minutes of seconds.
const HISTORY: usize = 600;
/// Most characters of a value.
const MOST_TYPED: usize = 12;
/// Seconds between samples that keys can choose.
const INTERVALS: [f64; 7] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];

/// The sort orders of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Name.
    Name,
    /// Volumes with faults first.
    State,
    /// Part that is dirty.
    Dirty,
    /// Reads and writes a second.
    Load,
    /// Bytes written back a second.
    Writeback,
}

impl Sort {
    const ALL: [Sort; 5] = [Sort::Name, Sort::State, Sort::Dirty, Sort::Load, Sort::Writeback];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::State => "state",
            Sort::Dirty => "dirty",
            Sort::Load => "load",
            Sort::Writeback => "writeback",
        }
    }
}

/// A question or a message over the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialog {
    /// The help on the keys.
    Help,
    /// The choice of the option to change: its number in [`tunables::all`].
    Choose(usize),
    /// The input of the new value.
    Type {
        /// Number of the option.
        option: usize,
        /// The text typed so far.
        text: String,
        /// The fault of the text.
        error: Option<String>,
    },
    /// The request for confirmation.
    Confirm {
        /// Number of the option.
        option: usize,
        /// The value.
        value: String,
    },
    /// The result.
    Told(String),
}

/// An action that the caller has to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// End.
    Quit,
    /// Take the next sample now.
    Look,
    /// Set an option of a volume.
    Set {
        /// The volume.
        volume: String,
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

/// A volume as seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last sample.
    pub now: VolumeSample,
    /// The rates between that sample and the one before.
    pub rates: Rates,
    /// The earlier rates, the newest last.
    pub history: VecDeque<Rates>,
}

/// The dashboard.
#[derive(Debug, Clone)]
pub struct App {
    /// When the last sample was taken, in milliseconds since 1970.
    pub at_ms: u64,
    /// The volumes, by name.
    pub volumes: BTreeMap<String, Seen>,
    /// The selected one.
    pub selected: Option<String>,
    /// The sort order.
    pub sort: Sort,
    /// Whether the order is reversed.
    pub reverse: bool,
    /// Whether only the selected volume is shown, with all details.
    pub detail: bool,
    /// Whether samples are ignored.
    pub paused: bool,
    /// Whether this is a recording.
    pub replay: bool,
    /// Seconds between samples.
    pub interval_s: f64,
    /// The dialog over the screen.
    pub dialog: Option<Dialog>,
    /// Why there are no new samples.
    pub error: Option<String>,
}

impl App {
    /// A dashboard without samples.
    pub fn new(interval_s: f64, replay: bool) -> Self {
        Self {
            at_ms: 0,
            volumes: BTreeMap::new(),
            selected: None,
            sort: Sort::Name,
            reverse: false,
            detail: false,
            paused: false,
            replay,
            interval_s,
            dialog: None,
            error: None,
        }
    }

    /// A sample has come.
    pub fn see(&mut self, sample: &Sample) {
        self.error = None;
        if self.paused {
            return;
        }
        let seconds = sample.at_ms.saturating_sub(self.at_ms) as f64 / 1000.0;
        self.at_ms = sample.at_ms;
        self.volumes.retain(|name, _| sample.volumes.iter().any(|v| v.name == *name));
        for v in &sample.volumes {
            let seen = self.volumes.entry(v.name.clone()).or_default();
            let is_same = !seen.now.name.is_empty() && seen.now.uuid == v.uuid;
            if is_same {
                seen.rates = Rates::between(&seen.now, v, seconds);
                seen.history.push_back(seen.rates);
                if seen.history.len() > HISTORY {
                    seen.history.pop_front();
                }
            } else {
                *seen = Seen::default();
            }
            seen.now = v.clone();
        }
        if self.selected.as_ref().is_none_or(|s| !self.volumes.contains_key(s)) {
            self.selected = self.sorted().first().map(|s| s.now.name.clone());
            self.detail = false;
        }
    }

    /// There is no sample; `error` says why.
    pub fn fail(&mut self, error: String) {
        self.error = Some(error);
    }

    /// The volumes in the order in which they are shown.
    pub fn sorted(&self) -> Vec<&Seen> {
        let mut all: Vec<&Seen> = self.volumes.values().collect();
        let rank = |s: &Seen| match s.now.looks() {
            "failed" => 0,
            "degraded" => 1,
            "ok" => 3,
            _ => 2,
        };
        match self.sort {
            Sort::Name => (),
            Sort::State => all.sort_by_key(|s| rank(s)),
            Sort::Dirty => all.sort_by(|a, b| b.now.dirty().total_cmp(&a.now.dirty())),
            Sort::Load => {
                let load = |s: &Seen| s.rates.reads + s.rates.writes;
                all.sort_by(|a, b| load(b).total_cmp(&load(a)));
            }
            Sort::Writeback => {
                all.sort_by(|a, b| b.rates.written_back_bytes.total_cmp(&a.rates.written_back_bytes));
            }
        }
        if self.reverse {
            all.reverse();
        }
        all
    }

    /// The selected volume.
    pub fn current(&self) -> Option<&Seen> {
        self.volumes.get(self.selected.as_ref()?)
    }

    /// The worst state of all volumes.
    pub fn worst(&self) -> &'static str {
        let any = |state: &str| self.volumes.values().any(|s| s.now.looks() == state);
        match () {
            () if any("failed") => "failed",
            () if any("degraded") => "degraded",
            () => "ok",
        }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::None;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Action::Quit;
        }
        match self.dialog.take() {
            Some(dialog) => self.key_of_dialog(dialog, key.code),
            None => self.key_of_screen(key.code),
        }
    }

    fn key_of_screen(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.detail => self.detail = false,
            KeyCode::Esc => return Action::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            KeyCode::Enter => self.detail = !self.detail && self.current().is_some(),
            KeyCode::Char('s') => {
                let at = Sort::ALL.iter().position(|s| *s == self.sort).unwrap_or(0);
                self.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
            }
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.dialog = Some(Dialog::Help),
            KeyCode::Char('t') if self.replay => {
                self.dialog =
                    Some(Dialog::Told("This is a recording: nothing can be changed in it.".to_owned()));
            }
            KeyCode::Char('t') if self.current().is_some() => self.dialog = Some(Dialog::Choose(0)),
            KeyCode::Char('+') => {
                self.interval_s =
                    INTERVALS.into_iter().find(|i| *i > self.interval_s).unwrap_or(self.interval_s);
                return Action::Look;
            }
            KeyCode::Char('-') => {
                let shorter = INTERVALS.into_iter().rev().find(|i| *i < self.interval_s);
                self.interval_s = shorter.unwrap_or(self.interval_s);
                return Action::Look;
            }
            _ => (),
        }
        Action::None
    }

    fn select(&mut self, by: isize) {
        let names: Vec<String> = self.sorted().iter().map(|s| s.now.name.clone()).collect();
        let Some(last) = names.len().checked_sub(1) else { return };
        let at = names.iter().position(|n| Some(n) == self.selected.as_ref()).unwrap_or(0);
        self.selected = names.get(at.saturating_add_signed(by).min(last)).cloned();
    }

    fn key_of_dialog(&mut self, dialog: Dialog, key: KeyCode) -> Action {
        let last = tunables::all().count() - 1;
        self.dialog = match (dialog, key) {
            // Any key.
            (Dialog::Help | Dialog::Told(_), _) => None,
            (_, KeyCode::Esc) => None,
            (Dialog::Choose(_), KeyCode::Char('q')) => None,
            (Dialog::Choose(i), KeyCode::Up | KeyCode::Char('k')) => {
                Some(Dialog::Choose(i.saturating_sub(1)))
            }
            (Dialog::Choose(i), KeyCode::Down | KeyCode::Char('j')) => {
                Some(Dialog::Choose((i + 1).min(last)))
            }
            (Dialog::Choose(option), KeyCode::Enter) => {
                Some(Dialog::Type { option, text: String::new(), error: None })
            }
            (Dialog::Type { option, mut text, .. }, KeyCode::Backspace) => {
                text.pop();
                Some(Dialog::Type { option, text, error: None })
            }
            (Dialog::Type { option, mut text, .. }, KeyCode::Char(c))
                if c.is_ascii_alphanumeric() && text.len() < MOST_TYPED =>
            {
                text.push(c);
                Some(Dialog::Type { option, text, error: None })
            }
            (Dialog::Type { option, text, .. }, KeyCode::Enter) => {
                match tunables::all().nth(option).map(|k| tunables::check(k.name, &text)) {
                    Some(Ok(())) => Some(Dialog::Confirm { option, value: text }),
                    Some(Err(error)) => Some(Dialog::Type { option, text, error: Some(error) }),
                    None => None,
                }
            }
            (Dialog::Confirm { option, value }, KeyCode::Char('y' | 'Y')) => {
                if let (Some(known), Some(volume)) = (tunables::all().nth(option), self.selected.clone()) {
                    return Action::Set { volume, key: known.name, value };
                }
                None
            }
            (Dialog::Confirm { .. }, KeyCode::Char('n' | 'N')) => None,
            (dialog, _) => Some(dialog),
        };
        Action::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, state: &str, dirty: u64) -> VolumeSample {
        VolumeSample {
            name: name.into(),
            state: state.into(),
            dirty_blocks: dirty,
            cache_blocks: 100,
            ..VolumeSample::default()
        }
    }

    fn app() -> App {
        let mut app = App::new(1.0, false);
        let volumes = vec![volume("a", "ok", 1), volume("b", "failed", 2), volume("c", "degraded", 90)];
        app.see(&Sample { at_ms: 1000, volumes });
        app
    }

    fn press(app: &mut App, keys: &str) -> Action {
        let mut action = Action::None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                '^' => KeyCode::Up,
                'v' => KeyCode::Down,
                c => KeyCode::Char(c),
            };
            action = app.key(KeyEvent::from(code));
        }
        action
    }

    #[test]
    fn selecting_and_sorting() {
        let mut app = app();
        let names = |app: &App| app.sorted().iter().map(|s| s.now.name.clone()).collect::<String>();
        assert_eq!((app.selected.as_deref(), names(&app).as_str()), (Some("a"), "abc"));
        assert_eq!(app.worst(), "failed");
        press(&mut app, "vv");
        assert_eq!(app.selected.as_deref(), Some("c"));
        press(&mut app, "v^");
        assert_eq!(app.selected.as_deref(), Some("b"));
        press(&mut app, "s");
        assert_eq!((app.sort, names(&app).as_str()), (Sort::State, "bca"));
        press(&mut app, "s");
        assert_eq!(names(&app), "cba");
        press(&mut app, "r");
        assert_eq!(names(&app), "abc");
        assert_eq!(app.selected.as_deref(), Some("b"), "the volume stays, wherever it goes");
        // The volume is gone.
        app.see(&Sample { at_ms: 2000, volumes: vec![volume("c", "ok", 0)] });
        assert_eq!((app.selected.as_deref(), app.volumes.len()), (Some("c"), 1));
        app.see(&Sample { at_ms: 3000, volumes: vec![] });
        assert_eq!(press(&mut app, "\nvst"), Action::None);
        assert!(app.selected.is_none() && !app.detail && app.dialog.is_none());
    }

    #[test]
    fn ends() {
        let mut app = app();
        assert_eq!(press(&mut app, "q"), Action::Quit);
        assert_eq!(press(&mut app, "\n\x1b"), Action::None);
        assert_eq!(press(&mut app, "\x1b"), Action::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut app, "t\n");
        assert_eq!(app.key(control_c), Action::Quit, "in a dialog, too");
    }

    #[test]
    fn a_pause_is_one() {
        let mut app = app();
        press(&mut app, "p");
        app.see(&Sample { at_ms: 9000, volumes: vec![] });
        assert_eq!((app.at_ms, app.volumes.len()), (1000, 3));
        press(&mut app, " ");
        app.see(&Sample { at_ms: 9000, volumes: vec![volume("a", "ok", 5)] });
        assert_eq!((app.at_ms, app.volumes.len(), app.volumes["a"].history.len()), (9000, 1, 1));
    }

    #[test]
    fn an_option_is_changed_when_that_is_confirmed() {
        let mut app = app();
        press(&mut app, "t");
        assert_eq!(app.dialog, Some(Dialog::Choose(0)));
        press(&mut app, "v^\n101\n");
        let Some(Dialog::Type { text, error: Some(error), .. }) = &app.dialog else {
            panic!("{:?}", app.dialog)
        };
        assert_eq!(text, "101");
        assert!(error.contains("from 0 to 100"), "{error}");
        press(&mut app, "\x08\n");
        assert_eq!(app.dialog, Some(Dialog::Confirm { option: 0, value: "10".into() }));
        assert_eq!(press(&mut app, "x"), Action::None);
        assert!(app.dialog.is_some(), "neither yes nor no");
        let set = Action::Set { volume: "a".into(), key: "writeback_threshold", value: "10".into() };
        assert_eq!(press(&mut app, "y"), set);
        assert_eq!(app.dialog, None);
        assert_eq!(press(&mut app, "t\ndefault\nn"), Action::None);
        assert_eq!(app.dialog, None);
        press(&mut app, "tvvvvvvvvv");
        assert_eq!(app.dialog, Some(Dialog::Choose(tunables::all().count() - 1)));
        app.replay = true;
        press(&mut app, "\x1bt");
        assert!(matches!(app.dialog, Some(Dialog::Told(_))));
    }

    #[test]
    fn intervals() {
        let mut app = app();
        assert_eq!((press(&mut app, "+"), app.interval_s), (Action::Look, 2.0));
        press(&mut app, "---------");
        assert_eq!(app.interval_s, 0.2);
        press(&mut app, "+++++++++++");
        assert_eq!(app.interval_s, 60.0);
    }

    #[test]
    fn the_past_has_an_end() {
        let mut app = App::new(1.0, false);
        for i in 0..700 {
            app.see(&Sample { at_ms: 1000 * i, volumes: vec![volume("a", "ok", 0)] });
        }
        assert_eq!(app.volumes["a"].history.len(), HISTORY);
        // Another volume of the same name.
        let other = VolumeSample { uuid: Some("x".into()), ..volume("a", "ok", 0) };
        app.see(&Sample { at_ms: 800_000, volumes: vec![other] });
        assert_eq!(app.volumes["a"].history.len(), 0);
    }
}
