//! Reading a kernel log for signs of trouble.

/// What the kernel prints when something is wrong. A guest whose log has one of these fails its test,
/// whatever the script said.
const TROUBLE: &[&str] = &[
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "BUG ",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "blocked for more than",
    "rcu_sched detected stalls",
    "rcu_preempt detected stalls",
    "rcu: INFO:",
    "self-detected stall",
    "soft lockup",
    "hard LOCKUP",
    "KASAN:",
    "KFENCE:",
    "UBSAN:",
    "general protection fault",
    "Unable to handle kernel",
    "possible circular locking dependency",
    "possible recursive locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "INFO: trying to register non-static key",
    "Bad page state",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "scheduling while atomic",
    "sleeping function called from invalid context",
    "unable to handle page fault",
    "rust_kernel: panicked",
    "panicked at",
    "Modules linked in:",
];

/// What looks like trouble in every guest and is none: each with the reason why.
const HARMLESS: &[&str] = &[];

/// The lines of `log` that report trouble.
pub fn trouble(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| TROUBLE.iter().any(|sign| line.contains(sign)))
        .filter(|line| !HARMLESS.iter().any(|harmless| line.contains(harmless)))
        .collect()
}

/// Whether the kernel whose `log` this is came to run its first program.
pub fn has_booted(log: &str) -> bool {
    log.lines().any(|line| line.contains("] Run /") && line.contains(" as init process"))
}

#[cfg(test)]
mod tests {
    use super::{has_booted, trouble};

    #[test]
    fn a_kernel_has_booted_when_it_runs_a_program() {
        assert!(!has_booted(
            "[    3.747082] CS:  0010 DS: 0000\n[    3.770468] Kernel panic - not syncing: Fatal exception\n"
        ));
        assert!(has_booted(
            "[    0.080000] Run /build/layers/cf7d/init as init process\n[    9.1] Kernel panic\n"
        ));
    }

    #[test]
    fn a_healthy_log_has_no_trouble() {
        let log =
            "[    0.000000] Linux version 7.3.4\n[    0.1] device-mapper: ioctl: 4.50.0-ioctl initialised\n\
                   [    0.2] DEBUG_KERNEL things\nEXT4-fs (dm-0): mounted filesystem\n";
        assert!(trouble(log).is_empty());
    }

    #[test]
    fn signs_are_found() {
        for line in [
            "[   12.3] WARNING: CPU: 0 PID: 1 at block/bio.c:1 bio_put+0x1/0x2",
            "[   12.3] BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "[  242.0] INFO: task fio:77 blocked for more than 120 seconds.",
            "[   60.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[   60.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [fio:77]",
            "[    1.0] BUG: KASAN: slab-use-after-free in foo+0x1/0x2",
            "[    1.0] WARNING: possible circular locking dependency detected",
            "[    1.0] BUG kmalloc-64 (Tainted: G): Redzone overwritten",
        ] {
            assert_eq!(trouble(line), [line]);
        }
    }
}
