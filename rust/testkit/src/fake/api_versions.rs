//! ApiVersions: what a fake broker speaks: topics by name, unless it was told to speak ids, and one group at a time.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::serve::{Answer, throttle};
use super::{About, Api, Call, Shared};

/// Number, oldest and newest version.
const SPOKEN: [(i16, i16, i16); 10] = [
    (Api::Produce as i16, 3, 12),
    (Api::Fetch as i16, 4, 11),
    (Api::ListOffsets as i16, 1, 6),
    (Api::Metadata as i16, 4, 13),
    (Api::OffsetCommit as i16, 2, 9),
    (Api::OffsetFetch as i16, 1, 7),
    (Api::FindCoordinator as i16, 0, 3),
    (Api::ApiVersions as i16, 0, 3),
    (Api::CreateTopics as i16, 2, 7),
    (Api::InitProducerId as i16, 0, 4),
];

/// The version of Produce and of Fetch that begins to name topics by their ids.
pub(super) const BY_ID: i16 = 13;

pub(super) fn answer(shared: &Shared, call: Call) -> Answer {
    let mut state = shared.state();
    let deed = state.ask(call, About::WHOLE);
    let api = |(key, min, max)| {
        let has_ids = key == Api::Produce as i16 || key == Api::Fetch as i16;
        let max = if state.speaks_ids && has_ids { BY_ID } else { max };
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    };
    let response = ApiVersionsResponse::default()
        .with_error_code(deed.code)
        .with_throttle_time_ms(throttle(&[deed]))
        .with_api_keys(SPOKEN.map(api).to_vec());
    Answer::new(&response, call, &[deed])
}
