//! Applications: the instances that this origin hosts.
//!
//! | module | what it holds |
//! |---|---|
//! | `objects` | the shared objects of one instance |

pub(crate) mod objects;
