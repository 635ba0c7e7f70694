//! Tables and plots of what was measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use plotters::prelude::*;
use serde_json::{json, Value};

use super::loads::{Figure, Goal, C_WRITEBOOST, LOADS};
use super::result::Unit;
use super::{Measured, Run};

/// Median, lowest, highest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    median: f64,
    low: f64,
    high: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, low, high })
    }

    fn show(self, unit: Unit) -> String {
        let Self { median, low, high } = self;
        if low == high {
            unit.show(median)
        } else {
            format!("{} ({}…{})", unit.show(median), unit.show(low), unit.show(high))
        }
    }
}

/// What readers call a target.
fn label(target: &str) -> &str {
    match target {
        "fast" => "cache device alone",
        "slow" => "backing device alone",
        "linear" => "dm-linear",
        "writecache" => "dm-writecache",
        "cache" => "dm-cache",
        C_WRITEBOOST => "dm-writeboost in C",
        other => other,
    }
}

fn is_peer(target: &str) -> bool {
    !matches!(target, "fast" | "slow" | "linear" | "writeboost")
}

/// The medians of a figure by target.
fn medians(measured: &Measured, unit: Unit) -> BTreeMap<&'static str, Summary> {
    let of = |rounds: &super::Rounds| Summary::of(rounds.get(&unit)?);
    measured.targets.iter().filter_map(|(target, rounds)| Some((*target, of(rounds)?))).collect()
}

/// How a goal came out.
struct Verdict {
    reached: bool,
    goal: String,
    ours: String,
}

fn verdict(measured: &Measured, figure: &Figure, goal: Goal) -> Option<Verdict> {
    let medians = medians(measured, figure.unit);
    let ours = medians.get("writeboost")?.median;
    let higher = figure.unit.higher_is_better();
    let (than, factor, name) = match goal {
        Goal::AtMost(limit) => {
            let (goal, ours_shown) = (format!("at most {}", figure.unit.show(limit)), figure.unit.show(ours));
            return Some(Verdict { reached: ours <= limit, goal, ours: ours_shown });
        }
        Goal::Of(target, factor) => (medians.get(target)?.median, factor, label(target)),
        Goal::BestPeer(factor) => {
            let peers = medians.iter().filter(|(target, _)| is_peer(target));
            let better = |a: &f64, b: &f64| if higher { a.total_cmp(b) } else { b.total_cmp(a) };
            let (target, best) =
                peers.map(|(target, s)| (*target, s.median)).max_by(|a, b| better(&a.1, &b.1))?;
            (best, factor, label(target))
        }
    };
    // How many times as good.
    let ratio = if higher { ours / than } else { than / ours };
    let goal = format!("at least {factor} times as good as {name}");
    Some(Verdict { reached: ratio >= factor, goal, ours: format!("{ratio:.2} times") })
}

/// The tables on the terminal.
pub fn print(all: &[Measured]) {
    for measured in all {
        println!("\n{}: {} ({})", measured.load.name, measured.load.title, measured.load.bed.name());
        for figure in measured.load.figures {
            println!("  {}", figure.unit.name());
            let medians = medians(measured, figure.unit);
            for target in measured.load.targets {
                if let Some(summary) = medians.get(target) {
                    println!("    {:<22}{:>34}", label(target), summary.show(figure.unit));
                }
            }
            for goal in figure.goals {
                if let Some(verdict) = verdict(measured, figure, *goal) {
                    let reached = if verdict.reached { "reached" } else { "NOT reached" };
                    println!("    {reached}: {}: {}", verdict.goal, verdict.ours);
                }
            }
        }
    }
}

/// Writes `report.md` and its plots into `dir`.
pub fn write(dir: &Path, run: &Run, all: &[Measured]) -> Result<PathBuf> {
    draw_all(dir, all)?;
    let path = dir.join("report.md");
    fs::write(&path, Report::of(run, all, "").text())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What is above this line in `docs/benchmarks.md` was written by hand.
const MARKER: &str = "<!-- From here on written by cargo xtask bench --keep -->\n";

/// Puts the report into `benchmarks.md` of `docs`, and its plots beside it. Loads that were not measured this
/// time stay as they are there.
pub fn keep(docs: &Path, run: &Run, all: &[Measured]) -> Result<()> {
    draw_all(&docs.join("benchmarks"), all)?;
    let path = docs.join("benchmarks.md");
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (head, kept) =
        old.split_once(MARKER).with_context(|| format!("{} has lost its line {MARKER}", path.display()))?;
    let mut report = Report::of(run, all, "benchmarks/");
    report.take_missing(Report::parse(kept));
    let new = format!("{head}{MARKER}\n{}", report.text());
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

fn draw_all(dir: &Path, all: &[Measured]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for measured in all {
        let plot = plot(measured);
        if let Some(first) = measured.load.figures.first() {
            draw(&dir.join(&plot), measured, first.unit).with_context(|| format!("cannot draw {plot}"))?;
        }
    }
    Ok(())
}

/// File name of a load's plot.
fn plot(measured: &Measured) -> String {
    format!("{}.svg", measured.load.name)
}

const GOALS: &str = "| load | figure | goal | is | reached |\n| --- | --- | --- | ---: | --- |\n";

/// A report in Markdown: what is said of each load, by its name. Each was measured in a run of its own, as
/// its section says.
#[derive(Debug, Default, PartialEq)]
struct Report {
    /// Above everything.
    head: String,
    /// Rows of the table of goals.
    goals: BTreeMap<String, String>,
    sections: BTreeMap<String, String>,
}

impl Report {
    /// What was measured; the plots are in `plots`, which is empty or ends with a slash.
    fn of(run: &Run, all: &[Measured], plots: &str) -> Self {
        let head = wrap(&format!(
            "Each figure is the median of its rounds, with the lowest and the highest. {}",
            run.c_writeboost
        ));
        let mut report = Self { head, ..Self::default() };
        for measured in all {
            let name = measured.load.name.to_owned();
            report.goals.insert(name.clone(), goals(measured));
            report.sections.insert(name, section(run, measured, plots));
        }
        report
    }

    /// What [`Report::text`] has written before.
    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        let mut sections = text.split("\n### ");
        let head = sections.next().unwrap_or_default();
        let (head, rows) = head.split_once(GOALS).unwrap_or((head, ""));
        report.head = head.trim().to_owned() + "\n";
        for section in sections {
            // The line below the title: `NAME`, on DEVICES. Commit ...
            let Some(line) = section.lines().nth(2) else { continue };
            let Some((name, _)) = line.split_once("`, on ") else { continue };
            let name = name.trim_start_matches('`');
            let of_it = |row: &&str| row.starts_with(&format!("| `{name}` |"));
            let rows: String = rows.lines().filter(of_it).map(|row| format!("{row}\n")).collect();
            report.goals.insert(name.to_owned(), rows);
            report.sections.insert(name.to_owned(), format!("### {}\n", section.trim()));
        }
        report
    }

    /// Takes over what `older` says of loads that there are and that this one has nothing of.
    fn take_missing(&mut self, older: Self) {
        for (name, section) in older.sections {
            if LOADS.iter().any(|load| load.name == name) && !self.sections.contains_key(&name) {
                self.goals.insert(name.clone(), older.goals.get(&name).cloned().unwrap_or_default());
                self.sections.insert(name, section);
            }
        }
    }

    fn text(&self) -> String {
        let of = |what: &BTreeMap<String, String>| -> Vec<String> {
            LOADS.iter().filter_map(|load| what.get(load.name).cloned()).collect()
        };
        let rows = of(&self.goals).concat();
        let table = if rows.is_empty() { String::new() } else { format!("\n{GOALS}{rows}") };
        format!("{}{table}\n{}", self.head, of(&self.sections).join("\n"))
    }
}

/// What there is to say about one load.
fn section(run: &Run, measured: &Measured, plots: &str) -> String {
    let load = measured.load;
    let rounds = measured.targets.values().flat_map(BTreeMap::values).map(Vec::len).max().unwrap_or(0);
    let mut text = format!(
        "### {}\n\n`{}`, on {}. Commit {}, kernel {}, {rounds} round{}{}.\n\n![{}]({plots}{})\n\n",
        capital(load.title),
        load.name,
        load.bed.name(),
        run.commit,
        run.kernel,
        if rounds == 1 { "" } else { "s" },
        if run.quick { ", a quick run" } else { "" },
        load.title,
        plot(measured)
    );
    let units: String = load.figures.iter().map(|f| format!(" {} |", f.unit.name())).collect();
    let _ = writeln!(text, "| |{units}\n| --- |{}", " ---: |".repeat(load.figures.len()));
    for target in load.targets.iter().filter(|target| measured.targets.contains_key(**target)) {
        let _ = write!(text, "| {} |", label(target));
        for figure in load.figures {
            let shown = medians(measured, figure.unit).get(target).map(|s| s.show(figure.unit));
            let _ = write!(text, " {} |", shown.unwrap_or_else(|| "-".to_owned()));
        }
        let _ = writeln!(text);
    }
    text
}

/// What should be and what is: rows of the table.
fn goals(measured: &Measured) -> String {
    let mut rows = String::new();
    for figure in measured.load.figures {
        for verdict in figure.goals.iter().filter_map(|goal| verdict(measured, figure, *goal)) {
            let (name, unit) = (measured.load.name, figure.unit.name());
            let is = if verdict.reached { "yes" } else { "**no**" };
            let _ = writeln!(rows, "| `{name}` | {unit} | {} | {} | {is} |", verdict.goal, verdict.ours);
        }
    }
    rows
}

/// A paragraph in lines of at most 110 characters.
fn wrap(text: &str) -> String {
    let (mut wrapped, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        let len = word.chars().count();
        let space = match width {
            0 => "",
            _ if width + 1 + len > 110 => "\n",
            _ => " ",
        };
        width = if space == " " { width + 1 + len } else { len };
        wrapped.push_str(space);
        wrapped.push_str(word);
    }
    wrapped + "\n"
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Bars, one for each target, with the spread of the rounds.
fn draw(path: &Path, measured: &Measured, unit: Unit) -> Result<()> {
    const WIDTH: u32 = 720;
    const LEFT: i32 = 170;
    const RIGHT: i32 = 130;
    const ROW: i32 = 30;
    let medians = medians(measured, unit);
    let rows: Vec<(&str, Summary)> =
        measured.load.targets.iter().filter_map(|target| Some((*target, *medians.get(target)?))).collect();
    let height = 44 + ROW * rows.len() as i32;
    let longest = rows.iter().map(|(_, s)| s.high).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (value / longest * f64::from(WIDTH as i32 - LEFT - RIGHT)).round() as i32;
    let error = |e: DrawingAreaErrorKind<_>| anyhow::anyhow!("{e}");
    let area = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(error)?;
    let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    area.draw_text(&format!("{} ({})", measured.load.title, unit.name()), &font(15), (10, 10))
        .map_err(error)?;
    for (i, (target, summary)) in rows.iter().enumerate() {
        let top = 38 + ROW * i as i32;
        let color = match *target {
            "writeboost" => RGBColor(0x1f, 0x6f, 0xb5),
            target if is_peer(target) => RGBColor(0xb0, 0x7a, 0x3c),
            _ => RGBColor(0xa8, 0xa8, 0xa8),
        };
        area.draw_text(label(target), &font(14), (10, top + 4)).map_err(error)?;
        area.draw(&Rectangle::new([(LEFT, top), (x(summary.median), top + 20)], color.filled()))
            .map_err(error)?;
        let spread = [(x(summary.low), top + 10), (x(summary.high), top + 10)];
        area.draw(&PathElement::new(spread, BLACK.stroke_width(1))).map_err(error)?;
        area.draw_text(&unit.show(summary.median), &font(14), (x(summary.high) + 8, top + 4))
            .map_err(error)?;
    }
    area.present().map_err(error)?;
    Ok(())
}

/// Everything that was measured, for other programs.
pub fn json(run: &Run, all: &[Measured]) -> Result<String> {
    let loads: Vec<Value> = all
        .iter()
        .map(|measured| {
            let targets: BTreeMap<&str, BTreeMap<&str, &Vec<f64>>> = measured
                .targets
                .iter()
                .map(|(target, rounds)| {
                    (*target, rounds.iter().map(|(unit, values)| (unit.name(), values)).collect())
                })
                .collect();
            let load = measured.load;
            json!({ "name": load.name, "title": load.title, "bed": load.bed.name(), "targets": targets })
        })
        .collect();
    let all = json!({
        "commit": run.commit, "kernel": run.kernel, "rounds": run.rounds, "quick": run.quick,
        "seconds": run.seconds, "c_writeboost": run.c_writeboost, "loads": loads,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(values: &[(&'static str, Unit, f64)]) -> Measured {
        let mut targets = BTreeMap::<&'static str, super::super::Rounds>::new();
        for (target, unit, value) in values {
            targets.entry(target).or_default().entry(*unit).or_default().push(*value);
        }
        Measured { load: &LOADS[0], targets }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Summary::of(&[4.0, 2.0]), Some(Summary { median: 3.0, low: 2.0, high: 4.0 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn goals_are_about_the_best_peer() {
        let m = measured(&[
            ("writeboost", Unit::Iops, 120.0),
            ("writecache", Unit::Iops, 100.0),
            ("cache", Unit::Iops, 90.0),
            ("linear", Unit::Iops, 400.0),
        ]);
        let figure = Figure { unit: Unit::Iops, goals: &[] };
        assert!(verdict(&m, &figure, Goal::BestPeer(1.2)).unwrap().reached);
        assert!(!verdict(&m, &figure, Goal::BestPeer(1.21)).unwrap().reached);
        assert!(!verdict(&m, &figure, Goal::Of("linear", 0.7)).unwrap().reached);
        // Less is better.
        let m = measured(&[
            ("writeboost", Unit::ResumeMs, 10.0),
            ("writecache", Unit::ResumeMs, 100.0),
            ("cache", Unit::ResumeMs, 120.0),
        ]);
        let figure = Figure { unit: Unit::ResumeMs, goals: &[] };
        assert!(verdict(&m, &figure, Goal::BestPeer(10.0)).unwrap().reached);
        assert!(!verdict(&m, &figure, Goal::BestPeer(10.1)).unwrap().reached);
        assert!(!verdict(&m, &figure, Goal::AtMost(9.0)).unwrap().reached);
    }

    #[test]
    fn what_was_not_measured_again_is_kept() {
        let run = |commit: &str| Run {
            kernel: "7.3".to_owned(),
            rounds: 1,
            quick: false,
            seconds: 1,
            commit: commit.to_owned(),
            c_writeboost: "It is missing.".to_owned(),
        };
        let of = |load: &'static super::super::Load, ours: f64| {
            let unit = load.figures[0].unit;
            Measured {
                load,
                ..measured(&[
                    ("writeboost", unit, ours),
                    ("writecache", unit, 1.0),
                    ("linear", unit, 1.0),
                    ("fast", unit, 1.0),
                ])
            }
        };
        let both = Report::of(&run("one"), &[of(&LOADS[0], 2.0), of(&LOADS[1], 3.0)], "");
        // Titles are not unique.
        let all = Report::of(&run("all"), &LOADS.iter().map(|load| of(load, 2.0)).collect::<Vec<_>>(), "");
        assert_eq!(Report::parse(&all.text()), all);
        let mut second = Report::of(&run("two"), &[of(&LOADS[1], 4.0)], "");
        second.take_missing(Report::parse(&both.text()));
        let text = second.text();
        assert_eq!(text.matches("Commit one").count(), 1, "{text}");
        assert_eq!(text.matches("Commit two").count(), 1, "{text}");
        let rows = text.lines().filter(|line| line.contains("times as good as")).count();
        assert_eq!(rows, both.goals.values().map(|rows| rows.lines().count()).sum::<usize>(), "{text}");
        // A load that is not there any more goes.
        let mut third = Report::of(&run("three"), &[], "");
        let old = both.text().replace(&format!("`{}`", LOADS[0].name), "`gone`");
        third.take_missing(Report::parse(&old));
        assert_eq!(third.sections.len(), 1);
    }
}
