//! What the host takes of a machine stays bounded: by the size of a message.

mod oversized;
