//! What breaks comes back. The API may be away for a while, so that several run side by side.

mod backup;
mod etcd;
mod guard;
mod recover;
mod standby;
