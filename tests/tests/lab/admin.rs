//! Managing: the module, tables, status, messages, options, and `wbctl`.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::support::{code, from_file, script, shell, Bench, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(admin::module, 5, true)),
    from_file!(script(admin::create_and_remove_often, 10, false)),
    from_file!(script(admin::table, 5, true)),
    from_file!(script(admin::status, 10, true)),
    from_file!(script(admin::messages, 5, true)),
    from_file!(script(admin::drop_caches, 30, false)),
    from_file!(script(admin::sync_data_interval, 10, false)),
    from_file!(script(admin::writeback_when_idle, 15, false)),
    from_file!(script(admin::reload, 5, true)),
    from_file!(script(admin::wbctl_refusals, 15, true)),
    code("admin::wbctl_json", 10, true, wbctl_json),
];

/// What `wbctl --json` prints is JSON, and right.
fn wbctl_json(cx: &Bench) -> Result<()> {
    let outcome = cx.run(cx.guest()?, shell!("admin/wbctl_json"))?;
    let answers: Vec<Value> = outcome
        .output
        .lines()
        .filter_map(|line| line.strip_prefix("JSON "))
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
        .collect::<Result<_>>()?;
    let sectors = 32 << 11;
    // An answer, where in it to look, and what must be there.
    let wanted: &[(usize, &str, Value)] = &[
        (1, "/name", "v".into()),
        (1, "/device", "/dev/mapper/v".into()),
        (1, "/formatted", true.into()),
        (1, "/size_sectors", sectors.into()),
        (1, "/dirty_blocks", 0.into()),
        (2, "/exit_code", 9.into()),
        (3, "/0/name", "v".into()),
        (3, "/0/state", "ok".into()),
        (3, "/0/dirty_blocks", 1024.into()),
        (4, "/size_sectors", sectors.into()),
        (4, "/backing/device", "/dev/ram0".into()),
        (4, "/cache/device", "/dev/ram1".into()),
        (4, "/dirty_bytes", (4 << 20).into()),
        (4, "/options/writeback_threshold", 0.into()),
        (4, "/read_errors", 0.into()),
        (4, "/writeback_errors", 0.into()),
        (5, "/dirty_blocks", 1024.into()),
        (5, "/backing", "/dev/ram0".into()),
        (6, "/exit_code", 7.into()),
        (7, "/formatted", false.into()),
        (7, "/dirty_blocks", 1024.into()),
        (8, "/dirty_blocks_before", 1024.into()),
        (8, "/dirty_blocks_after", 0.into()),
        (9, "/dirty_blocks", 0.into()),
        (10, "/dirty_blocks", 0.into()),
    ];
    ensure!(answers.len() == 12, "{} answers:\n{}", answers.len(), outcome.output);
    for (answer, at, value) in wanted {
        let is = answers[*answer].pointer(at);
        ensure!(is == Some(value), "answer {answer} has {is:?} at {at}, not {value}: {}", answers[*answer]);
    }
    for empty in [0, 11] {
        ensure!(
            answers[empty].as_array().is_some_and(Vec::is_empty),
            "no volumes, and the list is {}",
            answers[empty]
        );
    }
    ensure!(answers[1].get("uuid") == answers[7].get("uuid"), "the UUID changed");
    Ok(())
}
