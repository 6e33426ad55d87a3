//! What clients that publish are told, over real sockets.

use headwater_amf::Value;
use headwater_proto::v1::RecordState;
use headwater_rtmp::command::PublishMode;
use headwater_rtmp::status::{Level, Status};

use super::{RecordPolicy, mode};
use crate::testing::client::{Client, edge};
use crate::testing::owner::Owners;

fn details(status: &Status) -> Option<&Value> {
    let mut properties = status.properties.iter();
    properties
        .find(|(name, _)| name == "details")
        .map(|(_, value)| value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_what_becomes_of_its_recording() {
    for (state, code, level) in [
        (
            RecordState::Started,
            "NetStream.Record.Start",
            Level::Status,
        ),
        (RecordState::Failed, "NetStream.Record.Failed", Level::Error),
        (
            RecordState::NoAccess,
            "NetStream.Record.NoAccess",
            Level::Error,
        ),
        (
            RecordState::QuotaExceeded,
            "NetStream.Record.DiskQuotaExceeded",
            Level::Error,
        ),
    ] {
        let owners = Owners::start().await;
        for id in ["a", "b"] {
            *owners.owner(id).record.lock() = Some(state);
            owners.owner(id).durable.send_replace(u64::MAX);
        }
        let (url, shutdown) = edge(&owners.origins);
        let mut client = Client::connect(&url).await;
        let stream = client.create_stream().await;
        client
            .session
            .publish(stream, "show?token=1", PublishMode::Record)
            .unwrap();
        assert_eq!(client.status().await.code, "NetStream.Publish.Start");
        let told = client.status().await;
        assert_eq!((told.code.as_ref(), told.level), (code, level));
        assert_eq!(details(&told), Some(&Value::from("show")));
        assert!(!told.description.is_empty());
        client.key_frame(stream, 0).await;
        // The recording ends when the stream does, and the client is still there to hear of it.
        client.session.unpublish(stream).unwrap();
        let mut codes = Vec::new();
        while codes
            .last()
            .is_none_or(|code| code != "NetStream.Record.Stop")
        {
            codes.push(client.status().await.code);
        }
        assert_eq!(codes[0], "NetStream.Unpublish.Success");
        assert_eq!(codes.len(), 2, "{codes:?}");
        // The stream can be used again.
        client
            .session
            .publish(stream, "other", PublishMode::Live)
            .unwrap();
        assert_eq!(client.status().await.code, "NetStream.Publish.Start");
        shutdown.stop_now("the test is over");
    }
}

#[test]
fn the_application_may_record_more_or_less_than_is_asked_for() {
    use headwater_proto::v1::PublishMode as Owner;
    for (policy, asked, expected) in [
        (RecordPolicy::AsAsked, PublishMode::Live, Owner::Live),
        (RecordPolicy::AsAsked, PublishMode::Record, Owner::Record),
        (RecordPolicy::AsAsked, PublishMode::Append, Owner::Append),
        (RecordPolicy::Record, PublishMode::Live, Owner::Record),
        (RecordPolicy::Record, PublishMode::Append, Owner::Append),
        (RecordPolicy::Append, PublishMode::Live, Owner::Append),
        (RecordPolicy::Append, PublishMode::Record, Owner::Record),
        (
            RecordPolicy::Append,
            PublishMode::AppendWithGap,
            Owner::AppendWithGap,
        ),
        (RecordPolicy::Never, PublishMode::Record, Owner::Live),
        (RecordPolicy::Never, PublishMode::Live, Owner::Live),
    ] {
        assert_eq!(mode(policy, asked), expected, "{policy} {asked:?}");
    }
}
