//! `wbdaemon`: on real volumes, and as a service of systemd on Debian's own kernel, scraped by Debian's
//! Prometheus.

use std::borrow::Cow;
use std::fs;

use anyhow::Result;
use xtask::lab::{checkout, SUPPORTED};

use crate::support::{from_file, script, shell, test, Bench, Body, Level, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(daemon::steers, 60, true, "daemon")),
    from_file!(script(daemon::configuration, 30, true, "daemon")),
    from_file!(script(daemon::alone, 30, true, "daemon")),
    from_file!(script(daemon::clients, 60, true, "daemon")),
    from_file!(script(daemon::dashboard, 30, true, "daemon")),
    from_file!(script(daemon::overhead, 100, false, "daemon")),
    test(
        "daemon::against_fixed_policies",
        400,
        Level::Full,
        Body::Script(shell!("helpers/daemon", "daemon/against_fixed_policies")),
    ),
];

/// The tests on the newest of Debian's kernels.
pub fn on_debian() -> Vec<Test> {
    let Some(&newest) = SUPPORTED.last() else { return Vec::new() };
    let name = format!("daemon::service_{}_{}", newest.major, newest.minor);
    let body = Body::Debian(newest, service);
    vec![Test { name: Cow::Owned(name), seconds: 240, full_seconds: 240, level: Level::Normal, body }]
}

/// As users have it: installed, started by systemd, scraped by Prometheus.
fn service(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(2048).systemd().timeout(std::time::Duration::from_secs(1800));
    for file in ["wbdaemon.service", "wbdaemon.toml", "alerts.yml", "grafana.json"] {
        fs::copy(checkout().join("wbdaemon/share").join(file), cx.share().join(file))?;
    }
    cx.run(guest, shell!("helpers/daemon", "daemon/service"))?;
    Ok(())
}
