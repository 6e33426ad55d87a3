//! Named checks that decide whether the node takes traffic.
//!
//! A component registers a check and reports to it; the node is ready when every check is satisfied and it is not
//! draining. A check that never reported is not satisfied: a node does not become ready by forgetting.
//!
//! The number of checks is what the program registers; nothing from the network adds one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// The state of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckState {
    /// Whether it is satisfied.
    pub ok: bool,
    /// What it is, for the operator.
    pub detail: String,
}

/// The state of the node, as `/readyz` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Whether every check is satisfied and the node is not draining.
    pub ready: bool,
    /// Whether the node is on its way out.
    pub draining: bool,
    /// The checks by name.
    pub checks: BTreeMap<String, CheckState>,
}

impl ReadinessReport {
    fn judge(&mut self) {
        self.ready = !self.draining && self.checks.values().all(|check| check.ok);
    }
}

/// The registry of checks. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    report: Arc<watch::Sender<ReadinessReport>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// A registry without checks: ready.
    pub fn new() -> Self {
        let mut report = ReadinessReport::default();
        report.judge();
        Self {
            report: Arc::new(watch::Sender::new(report)),
        }
    }

    /// Registers a check, not satisfied until it reports. A name that exists gives a handle to the same check.
    pub fn check(&self, name: impl Into<String>) -> CheckHandle {
        let name = name.into();
        self.report.send_if_modified(|report| {
            let fresh = !report.checks.contains_key(&name);
            if fresh {
                report.checks.insert(
                    name.clone(),
                    CheckState {
                        ok: false,
                        detail: "not reported yet".to_owned(),
                    },
                );
                report.judge();
            }
            fresh
        });
        CheckHandle {
            readiness: self.clone(),
            name,
        }
    }

    /// Makes the node not ready for good.
    pub fn drain(&self) {
        self.report.send_if_modified(|report| {
            let changed = !report.draining;
            report.draining = true;
            report.judge();
            changed
        });
    }

    /// The state now.
    pub fn report(&self) -> ReadinessReport {
        self.report.borrow().clone()
    }

    /// Whether the node takes traffic now.
    pub fn is_ready(&self) -> bool {
        self.report.borrow().ready
    }

    /// The state as it changes.
    pub fn subscribe(&self) -> watch::Receiver<ReadinessReport> {
        self.report.subscribe()
    }

    /// Waits until the node is ready. Cancel safe.
    pub async fn ready(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.subscribe().wait_for(|report| report.ready).await;
    }
}

/// Reports to one check. Clones report to the same check; dropping a handle leaves the check as it is.
#[derive(Clone, Debug)]
pub struct CheckHandle {
    readiness: Readiness,
    name: String,
}

impl CheckHandle {
    /// Reports the state. `detail` is shown to the operator and must not hold secrets.
    pub fn set(&self, ok: bool, detail: impl Into<String>) {
        let state = CheckState {
            ok,
            detail: detail.into(),
        };
        self.readiness.report.send_if_modified(|report| {
            let changed = report.checks.get(&self.name) != Some(&state);
            report.checks.insert(self.name.clone(), state);
            report.judge();
            changed
        });
    }

    /// Takes the check out of the registry.
    pub fn remove(self) {
        self.readiness.report.send_if_modified(|report| {
            let changed = report.checks.remove(&self.name).is_some();
            report.judge();
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_must_be_satisfied() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let upstream = readiness.check("upstream");
        let listener = readiness.check("rtmp");
        assert!(!readiness.is_ready());
        upstream.set(true, "3 origins");
        assert!(!readiness.is_ready(), "one check has not reported");
        listener.set(true, "");
        assert!(readiness.is_ready());
        readiness.check("upstream").set(false, "no origin answers");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(
            report.checks["upstream"],
            CheckState {
                ok: false,
                detail: "no origin answers".to_owned()
            }
        );
        upstream.remove();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_draining_node_does_not_become_ready_again() {
        let readiness = Readiness::new();
        let check = readiness.check("upstream");
        check.set(true, "");
        readiness.drain();
        check.set(true, "still fine");
        assert!(!readiness.is_ready());
        assert!(readiness.report().draining);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_last_check_is_satisfied() {
        let readiness = Readiness::new();
        let check = readiness.check("upstream");
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        check.set(true, "");
        waiting.await.unwrap();
    }
}
