//! What must not be taken for agreement.

use tokio::sync::mpsc;

use super::*;
use crate::client::Connector;

fn watch(participants: Participants) -> Watch {
    let connector = Connector {
        connect_timeout: Duration::from_secs(1),
        command_timeout: Duration::from_secs(1),
        name: None,
        journal: None,
        sent: Default::default(),
    };
    let connections = Arc::new(Connections::new(connector, Vec::new(), 1));
    let (events, _) = mpsc::unbounded_channel();
    let within = Duration::from_secs(5);
    Watch::new(connections, participants, BTreeSet::new(), events, within)
}

#[tokio::test]
async fn no_participants_are_no_agreement() {
    let watch = watch(Participants::new());
    let goal = Arc::new(Goal {
        slots: BTreeMap::new(),
        masters: BTreeMap::new(),
        roles_known_by: KnownBy::All,
    });
    for done in [
        watch.join().await,
        watch.agree(&goal).await,
        watch.agree_and_settle(&goal).await,
        watch.usable(&goal).await.map(drop),
    ] {
        let late = done.unwrap_err().to_string();
        assert!(late.contains("no member is known"), "{late}");
    }
}

#[tokio::test]
async fn a_shorter_deadline_is_never_later_than_that_of_the_whole() {
    let watch = watch(Participants::new());
    let shorter = watch.within(Duration::from_secs(1));
    assert!(shorter.deadline < watch.deadline);
    assert_eq!(shorter.within, Duration::from_secs(1));
    let longer = watch.within(Duration::from_secs(60));
    assert_eq!(longer.deadline, watch.deadline);
    assert_eq!(longer.within, watch.within);
}
