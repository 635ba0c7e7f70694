// SPDX-License-Identifier: GPL-2.0-only

//! The screen: its layout at any size, with or without colours, with block characters or only ASCII.
//!
//! Colour never carries information alone: there is a word or another character beside it.

use crate::{
    app::{App, Dialog, Seen},
    rates::{activity, Device, Rates},
    sample::{human, VolumeSample, STEERED},
    tunables,
};
use ratatui::{
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Clear, Paragraph, Wrap},
    Frame,
};
use wbhost::report::Cell;
use writeboost::format::BLOCK;

/// On a smaller screen only a message is shown.
const LEAST: (u16, u16) = (40, 10);
/// Columns of the label before a line of values, and of the value behind the line.
const LABEL: usize = 11;
const VALUE: usize = 22;

/// The abilities of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// It has colours.
    pub colour: bool,
    /// It has only ASCII characters.
    pub ascii: bool,
}

impl Look {
    fn style(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn of_state(self, state: &str) -> Style {
        match state {
            "ok" => self.style(Color::Green),
            "degraded" => self.style(Color::Yellow).add_modifier(Modifier::BOLD),
            "failed" => self.style(Color::Red).add_modifier(Modifier::BOLD),
            _ => Style::new(),
        }
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn frame(self) -> Block<'static> {
        if self.ascii {
            let set = ratatui::symbols::border::Set {
                top_left: "+",
                top_right: "+",
                bottom_left: "+",
                bottom_right: "+",
                vertical_left: "|",
                vertical_right: "|",
                horizontal_top: "-",
                horizontal_bottom: "-",
            };
            Block::bordered().border_set(set)
        } else {
            Block::bordered().border_type(BorderType::Rounded)
        }
    }

    /// A bar of so many characters, of which a part from 0 to 1 is filled.
    fn bar(self, part: f64, width: usize) -> String {
        let (full, empty) = if self.ascii { ('#', '.') } else { ('█', '░') };
        let n = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
        // A part that is not zero shows at least one character.
        let n = if part > 0.0 && n == 0 && width > 0 { 1 } else { n };
        std::iter::repeat_n(full, n).chain(std::iter::repeat_n(empty, width - n)).collect()
    }

    /// The last `width` values as characters of different height, in so many rows, the topmost first. The
    /// highest value fills all rows, unless `top` does.
    fn plot(
        self,
        values: impl Iterator<Item = f64>,
        top: Option<f64>,
        width: usize,
        rows: usize,
    ) -> Vec<String> {
        const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const ASCII: [char; 9] = [' ', '.', ':', '-', '=', '+', '*', '%', '#'];
        let heights = if self.ascii { ASCII } else { HEIGHTS };
        let values: Vec<f64> = values.map(|v| if v.is_finite() { v.max(0.0) } else { 0.0 }).collect();
        let shown = &values[values.len().saturating_sub(width)..];
        let most = top.unwrap_or_else(|| shown.iter().copied().fold(0.0, f64::max));
        let all = rows * 8;
        let height =
            |v: f64| if v > 0.0 { ((v / most * all as f64).ceil() as usize).clamp(1, all) } else { 0 };
        (0..rows)
            .rev()
            .map(|below| {
                let line: String =
                    shown.iter().map(|&v| heights[height(v).saturating_sub(below * 8).min(8)]).collect();
                format!("{line:>width$}")
            })
            .collect()
    }
}

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, app: &App, look: Look) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("too small: {}x{} at least", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(vec![Line::from(app.worst()), Line::from(text)]), area);
        return;
    }
    let [head, middle, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(header(app, look, head.width.into())), head);
    let keys = if area.width >= 96 {
        "q quit  arrows select  enter details  s sort  r reverse  p pause  t tune  +/- interval  ? help"
    } else {
        "q quit  arrows select  enter details  s sort  p pause  t tune  ? help"
    };
    frame.render_widget(Paragraph::new(Line::styled(keys, look.dim())), foot);
    match (&app.error, app.current()) {
        (Some(error), _) => {
            let text = vec![
                Line::styled("No news:", look.of_state("failed")),
                Line::from(error.as_str()),
                Line::from("It is tried again."),
            ];
            frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), middle);
        }
        (None, None) => {
            let text = vec![
                Line::default(),
                Line::from("  There is no writeboost volume."),
                Line::default(),
                Line::from("  sudo wbctl create NAME BACKING CACHE   makes one; it will appear here."),
            ];
            frame.render_widget(Paragraph::new(text), middle);
        }
        (None, Some(seen)) if app.detail => details(frame, middle, seen, look),
        (None, Some(seen)) => {
            let rows = app.volumes.len() as u16 + 1;
            let [table, panel] = Layout::vertical([
                Constraint::Length(rows.min(middle.height / 3).max(2)),
                Constraint::Min(0),
            ])
            .areas(middle);
            frame.render_widget(Paragraph::new(volumes(app, look, table)), table);
            overview(frame, panel, seen, look);
        }
    }
    if let Some(dialog) = &app.dialog {
        draw_dialog(frame, area, app, dialog, look);
    }
}

/// The first line.
fn header(app: &App, look: Look, width: usize) -> Line<'static> {
    let n = app.volumes.len();
    let mut spans = vec![
        Span::styled(" writeboost ", look.strong().add_modifier(Modifier::REVERSED)),
        Span::raw(format!("  {n} volume{}: ", if n == 1 { "" } else { "s" })),
    ];
    let mut first = true;
    for state in ["failed", "degraded", "ok", "unknown"] {
        let n = app.volumes.values().filter(|s| s.now.state == state).count();
        if n > 0 {
            spans.push(Span::raw(if first { "" } else { ", " }));
            spans.push(Span::styled(format!("{n} {state}"), look.of_state(state)));
            first = false;
        }
    }
    if first {
        spans.push(Span::raw("none"));
    }
    let order = format!("by {}{}", app.sort.word(), if app.reverse { ", reversed" } else { "" });
    let mut flags = Vec::new();
    flags.extend(app.replay.then_some("REPLAY"));
    flags.extend(app.paused.then_some("PAUSED"));
    let mut parts = vec![order, format!("every {} s", app.interval_s), clock(app.at_ms)];
    parts.extend(flags.into_iter().map(str::to_owned));
    // Without enough room the least important parts are left out first.
    let left: usize = spans.iter().map(Span::width).sum();
    while !parts.is_empty() && left + 1 + parts.join("  ").len() > width {
        parts.remove(0);
    }
    let right = parts.join("  ");
    spans.push(Span::raw(" ".repeat(width.saturating_sub(left + right.len()))));
    spans.push(Span::raw(right));
    Line::from(spans)
}

/// The time of the day in UTC.
fn clock(at_ms: u64) -> String {
    let s = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

/// The list of volumes.
fn volumes(app: &App, look: Look, area: Rect) -> Vec<Line<'static>> {
    let width: usize = area.width.into();
    let all = app.sorted();
    let name_width = all.iter().map(|s| s.now.name.chars().count()).max().unwrap_or(4).clamp(4, 24);
    let wide = width >= 100;
    let head = if wide {
        format!(
            "  {:name_width$} {:10} {:>20} {:>6} {:>8} {:>8} {:>8} {:>5} {:>11} {:>8}  {}",
            "NAME",
            "STATE",
            "LOG IN USE",
            "DIRTY",
            "READS/s",
            "WRITES/s",
            "FLUSH/s",
            "HITS",
            "WRITEBACK",
            "READ ms",
            "NOW"
        )
    } else {
        format!(
            "  {:name_width$} {:9} {:>6} {:>6} {:>7} {:>7} {:>5} {:>10}  {}",
            "NAME", "STATE", "IN USE", "DIRTY", "READS/s", "WRITE/s", "HITS", "WRITEBACK", "NOW"
        )
    };
    let mut lines = vec![Line::styled(fit(&head, width), look.dim())];
    // The selected volume is always visible.
    let rows = usize::from(area.height).saturating_sub(1).max(1);
    let at = all.iter().position(|s| Some(&s.now.name) == app.selected.as_ref()).unwrap_or(0);
    let from = (at + 1).saturating_sub(rows);
    for seen in all.iter().skip(from).take(rows) {
        let (v, r) = (&seen.now, &seen.rates);
        let selected = Some(&v.name) == app.selected.as_ref();
        let mark = if selected { "> " } else { "  " };
        let name = fit(&v.name, name_width);
        let hits = percent(r.read_hit_percent);
        let back = format!("{}/s", human(r.written_back_bytes as u64));
        let used = format!("{:.0} %", v.used() * 100.0);
        let dirty = format!("{:.0} %", v.dirty() * 100.0);
        let before = format!("{mark}{name:name_width$} ");
        let state = if wide { format!("{:10}", v.state) } else { format!("{:9}", v.state) };
        let rest = if wide {
            format!(
                " {} {used:>5} {dirty:>6} {:>8} {:>8} {:>8} {hits:>5} {back:>11} {:>8}  {}",
                look.bar(v.used(), 14),
                count(r.reads),
                count(r.writes),
                count(r.flushes),
                ms(r.read_ms),
                activity(v, r)
            )
        } else {
            format!(
                " {used:>6} {dirty:>6} {:>7} {:>7} {hits:>5} {back:>10}  {}",
                count(r.reads),
                count(r.writes),
                activity(v, r)
            )
        };
        let strong = if selected { look.strong() } else { Style::new() };
        lines.push(Line::from(vec![
            Span::styled(before, strong),
            Span::styled(state, look.of_state(&v.state)),
            Span::styled(rest, strong),
        ]));
    }
    lines
}

/// The selected volume, on the rest of the screen.
fn overview(frame: &mut Frame<'_>, area: Rect, seen: &Seen, look: Look) {
    let (v, r) = (&seen.now, &seen.rates);
    let inner = framed(frame, area, v, r, look);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let mut lines = vitals(v, look, width);
    if let Some(trouble) = trouble(v) {
        lines.push(Line::styled(trouble, look.of_state("failed")));
    }
    curves_and_map(&mut lines, seen, look, width, height);
    frame.render_widget(Paragraph::new(lines), inner);
}

/// Fills the rest of `height` rows.
fn curves_and_map(lines: &mut Vec<Line<'static>>, seen: &Seen, look: Look, width: usize, height: usize) {
    let left = height.saturating_sub(lines.len());
    // The map gets as many rows as its cells need, if the curves have a row each; but at least two.
    let wanted = seen.now.report.as_ref().map_or(1, |r| r.map.len().div_ceil(width.max(1)) + 1);
    let map_rows = wanted.min(left.saturating_sub(8)).max(3);
    lines.extend(curves(seen, look, width, left.saturating_sub(map_rows)));
    let rows = height.saturating_sub(lines.len());
    lines.extend(map(&seen.now, look, width, rows));
}

/// A label and a text beside it, in as many lines as the text needs.
fn labelled(label: &str, text: &str, width: usize) -> Vec<Line<'static>> {
    let text = wrapped(text, width.saturating_sub(LABEL));
    let line = |(i, line): (usize, String)| {
        let label = if i == 0 { label } else { "" };
        Line::from(format!("{label:LABEL$}{line}"))
    };
    text.into_iter().enumerate().map(line).collect()
}

/// Draws a frame with the state of a volume in it, and returns the area inside.
fn framed(frame: &mut Frame<'_>, area: Rect, v: &VolumeSample, r: &Rates, look: Look) -> Rect {
    let block = look.frame().title(Span::styled(title(v, r), look.of_state(v.looks())));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// State and activity of a volume.
fn title(v: &VolumeSample, r: &Rates) -> String {
    let now = activity(v, r);
    if now == v.state {
        format!(" {}: {now} ", v.name)
    } else {
        format!(" {}: {}, {now} ", v.name, v.state)
    }
}

/// How full and how dirty the cache is, and which part decides about writeback.
fn vitals(v: &VolumeSample, look: Look, width: usize) -> Vec<Line<'static>> {
    let bar = width.saturating_sub(2 * 24).clamp(8, 120) / 2;
    let gauge = |name: &str, part: f64, colour: Color| {
        vec![
            Span::raw(format!("{name} ")),
            Span::styled(look.bar(part, bar), look.style(colour)),
            Span::raw(format!(" {:>3.0} %  ", part * 100.0)),
        ]
    };
    let used_colour = if v.used() > 0.9 { Color::Red } else { Color::Cyan };
    let mut gauges = gauge("log in use", v.used(), used_colour);
    gauges.extend(gauge("dirty", v.dirty(), Color::Yellow));
    let mut lines = vec![Line::from(gauges)];
    lines.push(Line::from(vec![
        Span::raw(format!("{:LABEL$}", "throttle")),
        Span::styled(v.throttle(), look.strong()),
        Span::raw(format!(", decided by: {}", v.steered_by())),
    ]));
    lines
}

/// The faults, in a line.
fn trouble(v: &VolumeSample) -> Option<String> {
    let [cache_read, cache_write, backing_read, backing_write] = v.errors;
    let mut words = Vec::new();
    if v.fault != "none" {
        words.push(format!("fault: {}", v.fault));
    }
    for (n, what) in [
        (cache_read, "read errors of the cache device"),
        (cache_write, "write errors of the cache device"),
        (backing_read, "read errors of the backing device"),
        (backing_write, "write errors of the backing device"),
        (v.lost_blocks, "blocks LOST"),
    ] {
        if n > 0 {
            words.push(format!("{n} {what}"));
        }
    }
    let errors = (!words.is_empty()).then(|| format!("ERRORS  {}", words.join(", ")));
    let parts: Vec<String> = v.silent().chain(errors).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Most rows of a curve.
const TALL: usize = 4;

/// The most important curves of values over time, as many as fit into so many rows, and as tall as that
/// allows.
fn curves(seen: &Seen, look: Look, width: usize, room: usize) -> Vec<Line<'static>> {
    let r = &seen.rates;
    let columns = width.saturating_sub(LABEL + VALUE + 1).max(1);
    let bytes = |b: f64| format!("{}/s", human(b as u64));
    type Of = fn(&Rates) -> f64;
    let all: [(&str, Color, Of, String); 8] = [
        ("reads", Color::Green, |r| r.reads, format!("{}/s, {}", count(r.reads), bytes(r.read_bytes))),
        ("writes", Color::Magenta, |r| r.writes, format!("{}/s, {}", count(r.writes), bytes(r.write_bytes))),
        ("writeback", Color::Yellow, |r| r.written_back_bytes, bytes(r.written_back_bytes)),
        ("read hits", Color::Green, |r| r.read_hit_percent.unwrap_or(0.0), percent(r.read_hit_percent)),
        ("latency", Color::Red, latency, format!("r {} w {} ms", ms(r.read_ms), ms(r.write_ms))),
        ("flushes", Color::Blue, |r| r.flushes, format!("{}/s, {} ms", count(r.flushes), ms(r.flush_ms))),
        ("backing", Color::Cyan, |r| r.backing.busy_percent, busy(&r.backing)),
        ("cache", Color::Cyan, |r| r.cache.busy_percent, busy(&r.cache)),
    ];
    let rows = (room / all.len()).clamp(1, TALL);
    let mut lines = Vec::new();
    for (name, colour, of, value) in all.into_iter().take(room / rows) {
        let top = ["read hits", "backing", "cache"].contains(&name).then_some(100.0);
        let plot = look.plot(seen.history.iter().map(of), top, columns, rows);
        for (i, row) in plot.into_iter().enumerate() {
            // The words are on the lowest row, where the curve begins.
            let is_last = i + 1 == rows;
            let (name, value) = if is_last { (name, value.as_str()) } else { ("", "") };
            lines.push(Line::from(vec![
                Span::raw(format!("{name:LABEL$}")),
                Span::styled(row, look.style(colour)),
                Span::raw(format!(" {value:<VALUE$}")),
            ]));
        }
    }
    lines
}

fn latency(r: &Rates) -> f64 {
    r.read_ms.unwrap_or(0.0).max(r.write_ms.unwrap_or(0.0))
}

fn busy(d: &Device) -> String {
    format!("{:.0} % busy, queue {:.1}", d.busy_percent, d.queue)
}

/// The segments, in at most so many rows, legend included.
fn map(v: &VolumeSample, look: Look, width: usize, rows: usize) -> Vec<Line<'static>> {
    if rows < 2 || width == 0 {
        return Vec::new();
    }
    let Some(report) = &v.report else {
        return vec![Line::styled("The target does not tell what its segments are.", look.dim())];
    };
    let cells: Vec<Cell> = report.cells().collect();
    let room = width * (rows - 1);
    // There may be more cells than room: of several cells the most notable one is shown.
    let per = cells.len().div_ceil(room).max(1);
    let shown: Vec<Cell> = cells.chunks(per).filter_map(|c| c.iter().max().copied()).collect();
    let mut lines: Vec<Line<'static>> = shown
        .chunks(width)
        .map(|row| {
            let mut spans: Vec<Span<'static>> = Vec::new();
            for cell in row {
                let (c, style) = glyph(*cell, look);
                match spans.last_mut() {
                    Some(last) if last.style == style => last.content.to_mut().push(c),
                    _ => spans.push(Span::styled(String::from(c), style)),
                }
            }
            Line::from(spans)
        })
        .collect();
    let one = |cell: Cell, words: String| {
        let (c, style) = glyph(cell, look);
        [Span::styled(String::from(c), style), Span::raw(format!(" {words}  "))]
    };
    let mut legend = Vec::new();
    legend.extend(one(Cell::Open, format!("open {}", report.open)));
    legend.extend(one(Cell::Writing, format!("writing back {}", report.writing)));
    legend.extend(one(Cell::Dirty(9), format!("dirty {}", report.dirty)));
    legend.extend(one(Cell::Clean, format!("clean {}", report.clean)));
    legend.extend(one(Cell::Free, format!("free {}", report.free)));
    legend.push(Span::styled(format!("of {} segments", report.segments), look.dim()));
    lines.push(Line::from(legend));
    lines
}

fn glyph(cell: Cell, look: Look) -> (char, Style) {
    let (blocks, ascii, colour) = match cell {
        Cell::Free => ('·', '.', Color::DarkGray),
        Cell::Clean => ('░', '-', Color::Green),
        Cell::Dirty(n @ ..=3) => ('▒', digit(n), Color::Yellow),
        Cell::Dirty(n @ ..=6) => ('▓', digit(n), Color::Yellow),
        Cell::Dirty(n) => ('█', digit(n), Color::Yellow),
        Cell::Writing => ('w', 'w', Color::Cyan),
        Cell::Open => ('o', 'o', Color::Magenta),
    };
    (if look.ascii { ascii } else { blocks }, look.style(colour))
}

fn digit(n: u8) -> char {
    char::from(b'0' + n.min(9))
}

/// One volume, with all details.
fn details(frame: &mut Frame<'_>, area: Rect, seen: &Seen, look: Look) {
    let (v, r) = (&seen.now, &seen.rates);
    let inner = framed(frame, area, v, r, look);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let mut lines = vitals(v, look, width);
    lines.extend(trouble(v).map(|t| Line::styled(t, look.of_state("failed"))));
    for advice in &v.advice {
        lines.extend(wrapped(advice, width).into_iter().map(|l| Line::styled(l, look.of_state("degraded"))));
    }
    let device = |path: &str, bytes: u64, d: &Device| {
        format!(
            "{path}, {}: {:.0} % busy, queue {:.1}, reads {}/s in {} ms, writes {}/s in {} ms",
            human(bytes),
            d.busy_percent,
            d.queue,
            human(d.read_bytes as u64),
            ms(d.read_ms),
            human(d.write_bytes as u64),
            ms(d.write_ms)
        )
    };
    let so_far = format!(
        "{} reads, {} of them hits; {} writes, {} of them overwrites; {} flushes; {} written back",
        v.reads,
        v.read_hits,
        v.writes,
        v.write_hits,
        v.flushes,
        human(v.written_back_blocks * BLOCK as u64)
    );
    let options: Vec<String> =
        v.options.iter().filter_map(|(k, value)| Some(format!("{k} {}", (*value)?))).collect();
    let options = if options.is_empty() { "none given".to_owned() } else { options.join(", ") };
    for (label, text) in [
        ("backing", device(&v.backing, v.size_bytes, &r.backing)),
        ("cache", device(&v.cache, v.cache_blocks * BLOCK as u64, &r.cache)),
        ("uuid", v.uuid.clone().unwrap_or_else(|| "-".to_owned())),
        ("so far", so_far),
        ("options", options),
    ] {
        lines.extend(labelled(label, &text, width));
    }
    curves_and_map(&mut lines, seen, look, width, height);
    frame.render_widget(Paragraph::new(lines), inner);
}

fn draw_dialog(frame: &mut Frame<'_>, area: Rect, app: &App, dialog: &Dialog, look: Look) {
    let volume = app.selected.as_deref().unwrap_or("?");
    let known = |i: usize| tunables::all().nth(i);
    let value = |name: &str| tunables::word(app.current().and_then(|s| s.now.option(name)));
    let (title, lines): (String, Vec<Line<'static>>) = match dialog {
        Dialog::Help => (" Help: any key ".to_owned(), help()),
        Dialog::Told(text) => {
            (" Any key ".to_owned(), wrapped(text, 56).into_iter().map(Line::from).collect())
        }
        Dialog::Choose(at) => {
            let lines = tunables::all()
                .enumerate()
                .map(|(i, k)| {
                    let mark = if i == *at { "> " } else { "  " };
                    let style = if i == *at { look.strong() } else { Style::new() };
                    Line::styled(format!("{mark}{:26} {:>8} {}", k.name, value(k.name), k.unit), style)
                })
                .chain([Line::default(), Line::styled("enter: change it   esc: leave it", look.dim())])
                .collect();
            (format!(" Options of {volume} "), lines)
        }
        Dialog::Type { option, text, error } => {
            let Some(k) = known(*option) else { return };
            let mut lines: Vec<Line<'static>> = wrapped(k.summary, 56).into_iter().map(Line::from).collect();
            lines.push(Line::from(format!(
                "From {} to {} {}, or default. Now: {}",
                k.min,
                k.max,
                k.unit,
                value(k.name)
            )));
            lines.push(Line::default());
            lines.push(Line::styled(format!("{} = {text}_", k.name), look.strong()));
            if let Some(error) = error {
                lines
                    .extend(wrapped(error, 56).into_iter().map(|l| Line::styled(l, look.of_state("failed"))));
            }
            lines.push(Line::styled("enter: go on   esc: leave it", look.dim()));
            (format!(" {volume} "), lines)
        }
        Dialog::Confirm { option, value: new } => {
            let Some(k) = known(*option) else { return };
            let mut lines = vec![Line::from(format!("Set {} from {} to {new}?", k.name, value(k.name)))];
            if app.current().is_some_and(|s| s.now.steered_by() == STEERED) {
                lines.push(Line::from("wbdaemon steers this volume, and will then leave it to you."));
            }
            lines.push(Line::default());
            lines.push(Line::styled("y: yes   n: no", look.strong()));
            (format!(" {volume} "), lines)
        }
    };
    let width = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len()) as u16 + 4;
    let height = lines.len() as u16 + 2;
    let (width, height) = (width.min(area.width), height.min(area.height));
    let popup =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, popup);
    let block = look.frame().title(title).style(Style::new());
    frame.render_widget(Paragraph::new(lines).block(block), popup);
}

fn help() -> Vec<Line<'static>> {
    [
        "up down k j   select a volume        enter   all about it, and back",
        "s r           sort, the other way    p space pause",
        "t             change an option       + -     longer, shorter interval",
        "q esc         leave",
        "",
        "log in use   segments that are not free. When none is left, writes",
        "             are as fast as the backing device: full.",
        "dirty        data that only the cache device has.",
        "hits         reads that the cache answered.",
        "throttle     what writeback may do, and who decided that.",
        "The map is the cache device, segment by segment.",
    ]
    .map(Line::from)
    .into()
}

/// Text in lines of at most so many characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_ascii_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// At most so many characters of a text.
fn fit(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// A number a second, short.
fn count(n: f64) -> String {
    match n {
        n if n >= 9_999_500.0 => format!("{:.0}M", n / 1e6),
        n if n >= 9999.5 => format!("{:.1}k", n / 1e3),
        n if n >= 9.95 || n == 0.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

fn ms(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms >= 99.5 => format!("{ms:.0}"),
        Some(ms) => format!("{ms:.1}"),
    }
}

fn percent(percent: Option<f64>) -> String {
    percent.map_or_else(|| "-".to_owned(), |p| format!("{p:.0} %"))
}
