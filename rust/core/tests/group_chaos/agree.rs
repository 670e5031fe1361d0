//! What members may not differ in.

use crate::member::Member;
use crate::support::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_another_ordering_or_step_is_refused() {
    let stage = Stage::new(1).await;
    let mut first = Member::start(&stage.part);
    first.until_said("connected").await;
    for (name, ours, theirs) in [("ordering", "none", "partition"), ("consume-step", "100000", "5000")] {
        let mut part = stage.part.clone();
        part.settings.push((name.to_owned(), theirs.to_owned()));
        let mut other = Member::start(&part);
        let (_, text) = other.until_said("refused").await;
        println!("    {text}");
        assert!(
            text.contains(&format!("{name}={ours}")) && text.contains(&format!("{name}={theirs}")),
            "{text}"
        );
    }
    assert!(first.process.runs());
}
