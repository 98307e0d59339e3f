//! The runtime that proxies and scripted nodes live on. Tests themselves stay plain `#[test]` functions.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

pub(crate) fn handle() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("bench")
                .enable_all()
                .build()
                .unwrap()
        })
        .handle()
}
