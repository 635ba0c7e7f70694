//! `cargo xtask screenshots`: pictures of `wbstat` at work, for the README.
//!
//! A guest runs it in tmux, over volumes that do something; what tmux has on its screen becomes an SVG, cell
//! by cell.

use std::fmt::Write;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use vt100::{Cell, Color, Parser, Screen};
use xtask::lab::{checkout, Kernel, Lab, DEVICES};
use xtask::progress::Progress;

/// Size of a cell in the picture.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 16.5;
/// Around the screen.
const MARGIN: f64 = 10.0;
const BACKGROUND: &str = "#15181d";
const FOREGROUND: &str = "#d5d8dc";

/// The pictures, and the sizes of their screens.
const SHOTS: [(&str, u16, u16); 3] =
    [("wbstat", 120, 32), ("wbstat-detail", 120, 32), ("wbstat-80x24", 80, 24)];

/// Takes the pictures and puts them into `docs/`.
pub fn run(progress: Progress) -> Result<ExitCode> {
    let lab = Lab::setup(Kernel::UML, progress)?;
    let dir = tempfile::tempdir()?;
    let step = progress.step("taking pictures of wbstat", Duration::from_secs(100));
    let guest = lab.guest().mem(4096).share(dir.path()).timeout(Duration::from_secs(300));
    guest.run(&format!("{DEVICES}\n{}", include_str!("guest.sh")))?.check()?;
    for (name, columns, rows) in SHOTS {
        let text = fs::read(dir.path().join(format!("out/{name}.ansi")))
            .with_context(|| format!("the guest has taken no picture {name}"))?;
        let picture = svg(&screen(&text, columns, rows)?);
        fs::write(checkout().join(format!("docs/{name}.svg")), picture)?;
    }
    step.done();
    println!("docs/wbstat*.svg are new");
    Ok(ExitCode::SUCCESS)
}

/// The screen on which `text` was.
fn screen(text: &[u8], columns: u16, rows: u16) -> Result<Screen> {
    let mut parser = Parser::new(rows, columns, 0);
    let lines: Vec<&[u8]> = text.split(|&b| b == b'\n').take(rows.into()).collect();
    parser.process(&lines.join(&b"\r\n"[..]));
    let screen = parser.screen().clone();
    ensure!(!screen.contents().trim().is_empty(), "the screen is empty");
    Ok(screen)
}

/// A picture of the screen.
fn svg(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (width, height) =
        (f64::from(columns) * WIDTH + 2.0 * MARGIN, f64::from(rows) * HEIGHT + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let style = Style::of(screen.cell(row, column));
            let from = column;
            let mut text = String::new();
            while column < columns && Style::of(screen.cell(row, column)) == style {
                let contents = screen.cell(row, column).map(Cell::contents).unwrap_or_default();
                text.push_str(if contents.is_empty() { " " } else { contents });
                column += 1;
            }
            style.draw(&mut out, row, from, column - from, &text);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// How a cell looks.
#[derive(Debug, Clone, PartialEq)]
struct Style {
    foreground: String,
    background: Option<String>,
    bold: bool,
}

impl Style {
    fn of(cell: Option<&Cell>) -> Self {
        let Some(cell) = cell else {
            return Self { foreground: FOREGROUND.into(), background: None, bold: false };
        };
        let (mut foreground, mut background) = (color(cell.fgcolor()), color(cell.bgcolor()));
        if cell.inverse() {
            (foreground, background) = (
                Some(background.unwrap_or_else(|| BACKGROUND.to_owned())),
                Some(foreground.unwrap_or_else(|| FOREGROUND.to_owned())),
            );
        }
        Self {
            foreground: foreground.unwrap_or_else(|| FOREGROUND.to_owned()),
            background,
            bold: cell.bold(),
        }
    }

    /// Draws cells that look alike.
    fn draw(&self, out: &mut String, row: u16, column: u16, cells: u16, text: &str) {
        let (x, y) = (MARGIN + f64::from(column) * WIDTH, MARGIN + f64::from(row) * HEIGHT);
        let width = f64::from(cells) * WIDTH;
        // A string takes everything.
        if let Some(background) = &self.background {
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" \
                 fill=\"{background}\"/>"
            );
        }
        let bold = if self.bold { " font-weight=\"bold\"" } else { "" };
        // Word by word, so that each stands in its column whatever font there is.
        let mut at = 0;
        for word in text.split(' ') {
            let n = word.chars().count();
            if n > 0 {
                let escaped = word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let _ = writeln!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\"{bold} textLength=\"{:.1}\" \
                     lengthAdjust=\"spacingAndGlyphs\">{escaped}</text>",
                    x + at as f64 * WIDTH,
                    y + 12.8,
                    self.foreground,
                    n as f64 * WIDTH
                );
            }
            at += n + 1;
        }
    }
}

/// A colour as SVG has it; `None` for the terminal's own.
fn color(color: Color) -> Option<String> {
    const BASIC: [&str; 16] = [
        "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d5d8dc", "#7f848e",
        "#ff7b86", "#b5e890", "#ffd68a", "#82c4ff", "#e09af0", "#7fd8e2", "#ffffff",
    ];
    match color {
        Color::Default => None,
        Color::Rgb(r, g, b) => Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Idx(i @ 0..16) => Some(BASIC[usize::from(i)].to_owned()),
        // xterm's cube of 6 by 6 by 6, and its greys.
        Color::Idx(i @ 16..232) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let i = i - 16;
            Some(format!("#{:02x}{:02x}{:02x}", level(i / 36), level(i / 6 % 6), level(i % 6)))
        }
        Color::Idx(i) => {
            let grey = 8 + 10 * (i - 232);
            Some(format!("#{grey:02x}{grey:02x}{grey:02x}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_becomes_a_picture() {
        let screen = screen(b"a<b \x1b[1;31mred\x1b[0m\n\x1b[7minverse\x1b[0m\n", 20, 2).unwrap();
        let svg = svg(&screen);
        assert!(svg.contains(">a&lt;b</text>"), "{svg}");
        assert!(
            svg.contains("fill=\"#e06c75\" font-weight=\"bold\"") && svg.contains(">red</text>"),
            "{svg}"
        );
        assert!(
            svg.contains(&format!("fill=\"{FOREGROUND}\"/>")) && svg.contains(">inverse</text>"),
            "{svg}"
        );
        assert!(super::screen(b"\n\n", 20, 2).is_err());
    }

    #[test]
    fn colours() {
        assert_eq!(color(Color::Default), None);
        assert_eq!(color(Color::Idx(16)).unwrap(), "#000000");
        assert_eq!(color(Color::Idx(231)).unwrap(), "#ffffff");
        assert_eq!(color(Color::Idx(255)).unwrap(), "#eeeeee");
        assert_eq!(color(Color::Rgb(1, 2, 3)).unwrap(), "#010203");
    }
}
