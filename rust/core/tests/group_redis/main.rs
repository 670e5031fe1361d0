//! A group in a real Redis: what it costs, and what it does when Redis does not do its part.

mod clusters;
mod cost;
mod damage;
mod failovers;
mod refusals;
mod support;
