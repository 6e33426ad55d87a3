//! What happens when time passes.

use std::time::Duration;

use super::super::send::Negative;
use super::{FlowSet, Sent};

impl FlowSet {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let sending = self.sending.values();
        let flows = sending.flat_map(|flow| [flow.probe_due(), flow.messages().expires()]);
        let others = [
            self.acknowledge_at,
            self.timeout_at,
            self.overdue_at,
            self.pace.due(),
            self.lingering.until(),
        ];
        flows.chain(others).flatten().min()
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) gave, or has not: it does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.acknowledge_at.is_some_and(|at| at <= now) {
            self.acknowledge_at = None;
            self.acknowledge_now = !self.acknowledge.is_empty();
        }
        self.pace.handle_timeout(now);
        if self.overdue_at.is_some_and(|at| at <= now) {
            self.overdue_at = None;
            self.was_overdue = true;
            self.repeat_ends();
        }
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeout_at = None;
            self.overdue_at = None;
            let loss = self.lose_all();
            if loss {
                self.counters.timeouts += 1;
                let mut waiting = self.sending.values();
                let urgent = waiting.any(|it| it.time_critical && !it.messages().is_empty());
                self.round_trip.back_off(urgent);
            }
            self.congestion.timed_out(loss);
            if !loss {
                self.shrink();
            }
        }
        self.expire(now);
        self.lingering.expire(now);
        self.forget_idle(now);
        debug_assert!(self.is_consistent());
    }

    /// Nothing happened for a while: gives back what busier times took.
    fn shrink(&mut self) {
        self.in_flight.shrink_to_fit();
        self.told.shrink_to_fit();
        self.events.shrink_to_fit();
        self.acknowledge.shrink_to_fit();
        self.sending.shrink();
        self.receiving.shrink();
        for flow in self.sending.values_mut() {
            flow.shrink();
        }
        for flow in self.receiving.values_mut() {
            flow.shrink();
        }
    }

    /// What was sent last should have been answered by now. Where it was lost with all that came after it, nothing will tell: the oldest and
    /// the newest are sent again before their time. The far end answers at once because of the hole between them, and so tells of it.
    fn repeat_ends(&mut self) {
        while let Some(oldest) = self.in_flight.pop_front() {
            if self.give_up_on(&oldest) {
                break;
            }
        }
        while let Some(newest) = self.in_flight.pop_back() {
            if self.give_up_on(&newest) {
                break;
            }
        }
    }

    /// Counts a transmission as lost, if it is under way.
    fn give_up_on(&mut self, sent: &Sent) -> bool {
        let flow = self.sending.get_mut(&sent.flow);
        let lost = flow.map(|it| it.passed_over(sent.sequence, sent.transmission, true));
        let Some(Negative::Lost(size)) = lost else {
            return false;
        };
        self.outstanding -= size;
        self.counters.lost += 1;
        self.replaced = self.replaced.saturating_add(1);
        true
    }

    /// Waits for the acknowledgement of what was sent last. The far end keeps back that of a single packet for a while: there the timeout
    /// is early enough.
    pub(super) fn expect_answer(&mut self, now: Duration) {
        self.overdue_at = None;
        if self.was_overdue {
            return;
        }
        let [Some(first), Some(last)] = [self.in_flight.front(), self.in_flight.back()] else {
            return;
        };
        if self.outstanding > 0
            && first.packet < last.packet
            && let Some(patience) = self.round_trip.patience()
        {
            self.overdue_at = Some(now.max(last.mark.sent() + patience));
        }
    }

    /// Nothing is under way any more. Whether anything was.
    pub(super) fn lose_all(&mut self) -> bool {
        let flows = self.sending.values_mut();
        self.counters.lost += flows.map(|flow| flow.timed_out()).sum::<u64>();
        self.in_flight.clear();
        self.burst = 0;
        self.replaced = 0;
        std::mem::take(&mut self.outstanding) > 0
    }
}
