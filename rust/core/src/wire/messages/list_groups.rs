//! ListGroups: the groups that one broker coordinates. Who wants all asks every broker.

use super::prelude::*;

message! {
    /// Asks for groups in some states (KIP-518) and of some types (KIP-848); an empty list means any.
    pub struct ListGroupsRequest {
        pub states_filter: Vec<Str> => 4..,
        pub types_filter: Vec<Str> => 5..,
    }

    /// A group. Its protocol type is `consumer`, or empty when it only has committed offsets.
    pub struct ListedGroup {
        pub group_id: Str => 0..,
        pub protocol_type: Str => 0..,
        pub group_state: Str => 4..,
        pub group_type: Str => 5..,
    }

    /// The groups.
    pub struct ListGroupsResponse {
        pub throttle_time_ms: i32 => 1..,
        pub error_code: i16 => 0..,
        pub groups: Vec<ListedGroup> => 0..,
    }
}
api!(ListGroupsRequest => ListGroupsResponse, ListGroups, 0..=5, flexible 3);
