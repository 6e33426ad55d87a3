//! The groups that one client is a member of, by its flows: see [`group`].
//!
//! A client says with the first message of a flow which group it joins; the flow lasts as long as the membership. It may leave and join
//! again with another flow before the end of the first has come, so that a group is left with the last flow of it.
//!
//! Bounds: [`MOST`] flows. A first message that is no join is answered with the rejection of the flow; what follows it means nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::flow::{Body, FlowSet, Opening, Outgoing, Priority, ReceiveId, SendId};
use headwater_rtmfp::group::{self, GroupId};

/// Groups of one client.
const MOST: usize = 32;

/// Messages of all kinds that wait for the client; members beyond are not named to it.
const WAITING: usize = 1_024;

#[derive(Debug, Default)]
struct Membership {
    /// Not known before the first message.
    group: Option<GroupId>,
    /// The flow to the client, opened when there is somebody to name.
    back: Option<SendId>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<ReceiveId, Membership>);

impl Groups {
    /// The client has opened a flow. Whether it may be one of a group; else it is to be rejected.
    pub(super) fn opened(&mut self, flow: ReceiveId, metadata: &[u8]) -> bool {
        let is_taken = metadata == group::METADATA && self.0.len() < MOST;
        if is_taken {
            self.0.insert(flow, Membership::default());
        }
        is_taken
    }

    /// A message of such a flow. `Ok`: the group that the client joins with it. `Err`: the flow is to be rejected.
    pub(super) fn said(&mut self, flow: ReceiveId, message: &[u8]) -> Result<Option<GroupId>, ()> {
        let Some(membership) = self.0.get_mut(&flow) else {
            return Ok(None);
        };
        if membership.group.is_some() {
            return Ok(None);
        }
        match group::read_join(message) {
            Ok(group) => {
                membership.group = Some(group);
                Ok(Some(group))
            }
            Err(error) => {
                tracing::debug!(%error, "a client joins no group");
                self.0.remove(&flow);
                Err(())
            }
        }
    }

    /// A flow has ended. Gives the group that the client leaves with it.
    pub(super) fn ended(&mut self, flows: &mut FlowSet, flow: ReceiveId) -> Option<GroupId> {
        let membership = self.0.remove(&flow)?;
        if let Some(back) = membership.back {
            flows.close(back);
        }
        let mut others = self.0.values();
        let is_in = others.any(|other| other.group == membership.group);
        membership.group.filter(|_| !is_in)
    }

    /// Names members of a group to the client.
    pub(super) fn name(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        group: GroupId,
        neighbours: &[Fingerprint],
    ) {
        let mut memberships = self.0.iter_mut();
        // The newest, if there are several.
        let found = memberships.rfind(|(_, membership)| membership.group == Some(group));
        let Some((flow, membership)) = found else {
            return;
        };
        let back = membership.back.filter(|back| flows.is_sending(*back));
        let back = back.or_else(|| {
            let opening = Opening {
                metadata: group::METADATA,
                association: Some(*flow),
                priority: Priority::DATA,
                time_critical: false,
            };
            flows.open(&opening).ok()
        });
        membership.back = back;
        let Some(back) = back else {
            return;
        };
        for neighbour in neighbours {
            if flows.waiting().1 >= WAITING {
                return;
            }
            let body = Body::from(group::neighbour(neighbour));
            if flows.send(now, back, Outgoing::from(body)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_rtmfp::flow::Config;

    use super::*;

    const GROUP: GroupId = GroupId([3; 32]);

    #[test]
    fn a_group_is_left_with_the_last_flow_of_it() {
        let (mut groups, mut flows) = (Groups::default(), FlowSet::new(Config::default()));
        let [one, two, three] = [1, 2, 3].map(ReceiveId);
        for flow in [one, two, three] {
            assert!(groups.opened(flow, b"GC"));
        }
        assert_eq!(groups.said(one, &group::join(&GROUP)), Ok(Some(GROUP)));
        assert_eq!(groups.said(two, &group::join(&GROUP)), Ok(Some(GROUP)));
        assert_eq!(groups.said(two, b"whatever"), Ok(None));
        assert_eq!(groups.ended(&mut flows, one), None);
        assert_eq!(groups.ended(&mut flows, two), Some(GROUP));
        assert_eq!(groups.ended(&mut flows, two), None);
        assert_eq!(groups.ended(&mut flows, three), None, "it joined nothing");
    }

    #[test]
    fn other_flows_too_many_and_malformed_ones_are_rejected() {
        let mut groups = Groups::default();
        assert!(!groups.opened(ReceiveId(1), b"GR"));
        for flow in 0..MOST as u64 {
            assert!(groups.opened(ReceiveId(flow), b"GC"));
        }
        assert!(!groups.opened(ReceiveId(1_000), b"GC"));
        assert_eq!(groups.said(ReceiveId(0), b"\x01\x02\x15x"), Err(()));
        assert_eq!(groups.said(ReceiveId(0), &group::join(&GROUP)), Ok(None));
        assert!(
            groups.opened(ReceiveId(1_000), b"GC"),
            "there is room again"
        );
    }
}
