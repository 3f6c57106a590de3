//! What the host takes of a machine stays bounded: by the size of a message, by how many there are, by how slowly
//! they go on, and by how badly they go.

mod hour;
mod oversized;
mod soak;
