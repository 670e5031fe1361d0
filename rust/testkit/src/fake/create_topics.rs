//! CreateTopics: the controller makes topics, of as many partitions as are asked for, or one.

use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, NOT_CONTROLLER, Shared, TOPIC_ALREADY_EXISTS, code};

pub(super) fn answer(shared: &Shared, call: Call, request: &CreateTopicsRequest) -> Answer {
    let mut state = shared.state();
    let (mut deeds, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let name = topic.name.0.to_string();
        let deed = state.ask(call, About::topic(&name));
        deeds.push(deed);
        let code = code(
            deed,
            match state.topics.get(&name) {
                _ if state.controller != call.node => NOT_CONTROLLER,
                Some(_) => TOPIC_ALREADY_EXISTS,
                None => 0,
            },
        );
        if code == 0 && !request.validate_only {
            state.create(&name, usize::try_from(topic.num_partitions).unwrap_or(1));
        }
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        topics.push(result.with_error_code(code).with_error_message(None));
    }
    let response =
        CreateTopicsResponse::default().with_topics(topics).with_throttle_time_ms(throttle(&deeds));
    Answer::new(&response, call, &deeds)
}
