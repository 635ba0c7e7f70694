// SPDX-License-Identifier: GPL-2.0-only

//! Compares wbdaemon's policy with fixed ones on simulated days: prints a table and draws docs/steering*.svg.
//!
//! `cargo run --release -p wbdaemon --example steering [RECORDING ...]`

use plotters::prelude::*;
use std::{error::Error, fs, path::Path, thread};
use wbdaemon::{
    control::Tuning,
    loads::{generated, recorded, Load},
    simulate::{live, scores, Disk, Outcome, Policy},
};

const COLOURS: [RGBColor; 5] = [
    RGBColor(150, 150, 150),
    RGBColor(200, 120, 60),
    RGBColor(220, 180, 60),
    RGBColor(90, 140, 200),
    RGBColor(60, 160, 90),
];

fn main() -> Result<(), Box<dyn Error>> {
    let policies = [
        Policy::Fixed(100),
        Policy::Fixed(0),
        Policy::Fixed(70),
        Policy::BuiltIn,
        Policy::Steered(Tuning::default()),
    ];
    let mut loads = generated(1.0);
    loads.push(recorded(include_str!("../loads/ext4.csv"), "ext4, recorded", 64)?);
    for file in std::env::args().skip(1) {
        let text = fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
        loads.push(recorded(&text, &file, 1024).map_err(|e| format!("{file}: {e}"))?);
    }
    println!(
        "| load | policy | reads p50, p99 (ms) | full (s) | wait (ms) | written back | overwritten | \
         messages | sum |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut sums = vec![0.0; policies.len()];
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for load in &loads {
        eprintln!("{}: {} requests ...", load.name, load.requests.len());
        let outcomes: Vec<Outcome> = each(&policies, load);
        let scores = scores(&outcomes);
        for (((policy, o), score), sum) in policies.iter().zip(&outcomes).zip(&scores).zip(&mut sums) {
            *sum += score / loads.len() as f64;
            println!(
                "| {} | {} | {:.0}, {:.0} | {:.0} | {:.0} | {} | {} | {} | {score:.2} |",
                load.name,
                policy.name(),
                o.read_ms(50.0),
                o.read_ms(99.0),
                o.full_s,
                o.longest_wait_ms,
                o.written_back,
                o.overwritten,
                o.messages
            );
        }
        if load.name == "office" {
            draw_day(&docs.join("steering-day.svg"), &outcomes[2], &outcomes[4])?;
        }
    }
    for (policy, sum) in policies.iter().zip(&sums) {
        println!("| all | {} | | | | | | | {sum:.2} |", policy.name());
    }
    let names: Vec<String> = policies.iter().map(Policy::name).collect();
    draw_sums(&docs.join("steering-sum.svg"), &names, &sums)
}

/// The outcome of a load under each policy.
fn each(policies: &[Policy], load: &Load) -> Vec<Outcome> {
    let one = |policy| live(load, Disk::hard_disk(load.blocks), policy);
    thread::scope(|scope| {
        let lives: Vec<_> = policies.iter().map(|policy| scope.spawn(move || one(policy))).collect();
        lives.into_iter().map(|life| life.join().expect("a life without a panic")).collect()
    })
}

fn draw_sums(path: &Path, names: &[String], sums: &[f64]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (760, 300)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = sums.iter().copied().fold(0.1, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Reads' p99, time full and data written back, each as a part of the worst: the sum of the three",
            ("sans-serif", 15),
        )
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..names.len() as f64, 0.0..most)?;
    chart.configure_mesh().disable_x_mesh().disable_x_axis().draw()?;
    for (i, (name, sum)) in names.iter().zip(sums).enumerate() {
        let (x, colour) = (i as f64, COLOURS[i % COLOURS.len()]);
        chart.draw_series([Rectangle::new([(x + 0.2, 0.0), (x + 0.8, *sum)], colour.filled())])?;
        let text = format!("{name}: {sum:.2}");
        chart.draw_series([Text::new(text, (x + 0.2, sum + most * 0.05), ("sans-serif", 13))])?;
    }
    root.present()?;
    Ok(())
}

/// A day under the fixed threshold, above, and wbdaemon, below.
fn draw_day(path: &Path, fixed: &Outcome, steered: &Outcome) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 520)).into_drawing_area();
    root.fill(&WHITE)?;
    for ((area, outcome), name) in
        root.split_evenly((2, 1)).iter().zip([fixed, steered]).zip(["fixed 70 %", "wbdaemon"])
    {
        let mut chart = ChartBuilder::on(area)
            .caption(format!("A day in an office, {name}"), ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(30)
            .y_label_area_size(40)
            .right_y_label_area_size(50)
            .build_cartesian_2d(0.0..24.0, 0.0..1.0)?
            .set_secondary_coord(0.0..24.0, 0.0..300.0);
        chart.configure_mesh().x_desc("hour").y_desc("part of the log").light_line_style(WHITE).draw()?;
        chart.configure_secondary_axes().y_desc("blocks a second").draw()?;
        let hour = |at_s: f64| at_s / 3600.0;
        let history = &outcome.history;
        type Points = Vec<(f64, f64)>;
        let lines: [(&str, RGBColor, Points); 2] = [
            ("reads", RGBColor(200, 120, 60), history.iter().map(|p| (hour(p.at_s), p.reads)).collect()),
            (
                "written back",
                RGBColor(60, 160, 90),
                history.iter().map(|p| (hour(p.at_s), p.written_back)).collect(),
            ),
        ];
        for (label, colour, points) in lines {
            chart
                .draw_secondary_series(LineSeries::new(points, colour.stroke_width(1)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        chart
            .draw_series(LineSeries::new(
                history.iter().map(|p| (hour(p.at_s), p.used)),
                BLACK.stroke_width(2),
            ))?
            .label("in use")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.stroke_width(2)));
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    }
    root.present()?;
    Ok(())
}
