//! Names on the loop: asked for at once, answered in a later turn.
use super::resolver::Resolver;
use super::{Key, Loop, ResolveError};
use std::net::SocketAddr;
use std::rc::Rc;

impl Loop {
    /// The addresses of `host`: at once, or later through `handle_resolved` of `key`.
    pub(crate) fn resolve(
        &self,
        host: &str,
        port: u16,
        key: Key,
    ) -> Option<Result<Vec<SocketAddr>, ResolveError>> {
        let mut resolver = self.resolver.borrow_mut();
        let resolver = resolver.get_or_insert_with(|| Resolver::new(self.inbox.notifier()));
        resolver.resolve(host, port, key.to_u64(), self.now())
    }

    /// Whoever waited for a name has ended.
    pub(crate) fn abandon_name(&self, key: Key) {
        if let Some(resolver) = &mut *self.resolver.borrow_mut() {
            resolver.abandon(key.to_u64());
        }
    }

    /// A connect failed: the next one asks for the name anew.
    pub(crate) fn forget_name(&self, host: &str) {
        if let Some(resolver) = &mut *self.resolver.borrow_mut() {
            resolver.forget(host);
        }
    }

    pub(super) fn deliver_resolved(self: &Rc<Self>) {
        let found = match &mut *self.resolver.borrow_mut() {
            Some(resolver) => resolver.take_ready(self.now()),
            None => return,
        };
        for (ticket, addresses) in found {
            if let Some(endpoint) = self.find(Key::from_u64(ticket)) {
                endpoint.handle_resolved(self, addresses);
                self.after_callback();
            }
        }
    }
}
