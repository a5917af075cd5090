//! The engine in which the shipped scripts run: realms with a modelled browser around them, bound
//! to the native hub.
//!
//! Nothing in a realm is ambient. The clock, all randomness and everything that takes time come
//! from the world. Each task returns a list of what the scripts asked for.

pub mod code;
pub mod hub;
pub mod op;
pub mod realm;
pub mod scripts;
