//! Two who open a session to each other at the same time.

use super::*;

#[test]
fn of_two_who_open_to_each_other_one_prevails() {
    let mut rng = Seeded::new(1);
    let (one, other) = (client_identity(&mut rng), client_identity(&mut rng));
    let third = client_identity(&mut rng);
    let (low, high) = if one.certificate().as_bytes() < other.certificate().as_bytes() {
        (one, other)
    } else {
        (other, one)
    };
    /// One who has sent its keying to the holder of another identity.
    fn opening(near: &Arc<Identity>, far: &Arc<Identity>) -> Client {
        let wanted = discriminator::for_fingerprint(&far.certificate().fingerprint());
        let config = InitiatorConfig::new(Arc::clone(near), wanted);
        let mut client = Client::new(Duration::ZERO, config, &[at(SERVER)], 5);
        let mut server = Server::new(ResponderConfig::new(Arc::clone(far)), 6);
        server.runs = false;
        assert_eq!(
            client.initiator.glare(at(SERVER), far.certificate()),
            Glare::None
        );
        exchange(Duration::ZERO, &mut client, &mut server);
        assert_eq!(server.tasks.len(), 1);
        client
    }
    let from = |client: &Client, address: &str, far: &Certificate| {
        client.initiator.glare(at(address), far)
    };
    let client = opening(&low, &high);
    assert_eq!(
        from(&client, SERVER, high.certificate()),
        Glare::NearPrevails
    );
    assert_eq!(
        from(&client, SERVER, low.certificate()),
        Glare::NearPrevails
    );
    assert_eq!(from(&client, CLIENT, high.certificate()), Glare::None);
    let client = opening(&high, &low);
    assert_eq!(from(&client, SERVER, low.certificate()), Glare::FarPrevails);
    if third.certificate().as_bytes() < high.certificate().as_bytes() {
        assert_eq!(from(&client, SERVER, third.certificate()), Glare::Unrelated);
    } else {
        assert_eq!(
            from(&client, SERVER, third.certificate()),
            Glare::NearPrevails
        );
    }
    // The shorter of two that begin alike comes first.
    let longer = [high.certificate().as_bytes(), &[0]].concat();
    let longer = Certificate::read(&longer).unwrap();
    assert_eq!(from(&client, SERVER, &longer), Glare::NearPrevails);
}
