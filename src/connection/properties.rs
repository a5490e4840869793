//! State of the program's own on a connection or a worker: PHP's `$connection->uid`.
use super::{Connection, Core, Role};
use crate::Protocol;
use std::any::{Any, TypeId};

/// Values by type. A `None` holds the place of one that a closure works with.
pub(crate) type Properties = Vec<(TypeId, Option<Box<dyn Any>>)>;

/// Who has properties. What is done with them is the program's code, so none of it runs inside
/// `properties`.
pub(crate) trait Holder {
    fn properties<T>(&self, f: impl FnOnce(&mut Properties) -> T) -> T;
}

impl Holder for Core {
    fn properties<T>(&self, f: impl FnOnce(&mut Properties) -> T) -> T {
        self.with_rare(|rare| f(&mut rare.data))
    }
}

/// Sets a value and drops the one that was there.
pub(crate) fn set<T: Any>(holder: &impl Holder, value: T) {
    let value: Box<dyn Any> = Box::new(value);
    let old = holder.properties(|all| match place::<T>(all) {
        Some(place) => place.replace(value),
        None => {
            all.push((TypeId::of::<T>(), Some(value)));
            None
        }
    });
    drop(old);
}

/// A copy.
pub(crate) fn get<T: Any + Clone>(holder: &impl Holder) -> Option<T> {
    let value = holder.properties(|all| place::<T>(all).and_then(Option::take))?;
    let out = Out::<T, _> { holder, value: Some(value.downcast::<T>().ok()?) };
    out.value.as_deref().cloned()
}

/// Takes the value out, works with it, puts it back.
pub(crate) fn with<T: Default + Any, U>(
    holder: &impl Holder,
    f: impl FnOnce(&mut T) -> U,
) -> Option<U> {
    let taken = holder.properties(|all| match place::<T>(all) {
        Some(place) => place.take().map(Some),
        None => {
            all.push((TypeId::of::<T>(), None));
            Some(None)
        }
    });
    let Some(taken) = taken else {
        warn_nested::<T>();
        return None;
    };
    let mut out = Out { holder, value: taken.and_then(|value| value.downcast::<T>().ok()) };
    let value = out.value.get_or_insert_with(Box::default);
    Some(f(value))
}

/// A value that the program works with. It goes back to its place also where a panic ends that
/// work: a panic may be contained, and the connection go on.
struct Out<'a, T: Any, H: Holder> {
    holder: &'a H,
    value: Option<Box<T>>,
}

/// One that was set meanwhile stays.
impl<T: Any, H: Holder> Drop for Out<'_, T, H> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else {
            // `Default` panicked: the next one who asks tries again.
            let free =
                |(id, value): &(TypeId, Option<_>)| *id != TypeId::of::<T>() || value.is_some();
            return self.holder.properties(|all| all.retain(free));
        };
        let value: Box<dyn Any> = value;
        let old = self.holder.properties(|all| match place::<T>(all) {
            Some(Some(_)) => Some(value),
            Some(empty) => {
                *empty = Some(value);
                None
            }
            None => Some(value),
        });
        drop(old);
    }
}

fn place<T: Any>(all: &mut Properties) -> Option<&mut Option<Box<dyn Any>>> {
    all.iter_mut().find(|(id, _)| *id == TypeId::of::<T>()).map(|(_, value)| value)
}

/// A type was asked for inside its own closure.
#[cold]
fn warn_nested<T>() {
    log::warn!(
        "with::<{0}> inside with::<{0}> of the same connection or worker answers None: the first \
         has the value out",
        std::any::type_name::<T>()
    );
}

impl<P: Protocol, R: Role> Connection<P, R> {
    /// State of your own, by type: PHP's `$connection->uid`. Made by `Default` when it is first
    /// asked for. `None` on a stale handle, and inside `f` for the same type again (a log line says
    /// so).
    ///
    /// ```
    /// use workerman::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Uid(String);
    ///
    /// fn on_message(con: TcpConnection<Text>, data: Data) {
    ///     con.with(|uid: &mut Uid| uid.0 = data.to_string());
    /// }
    /// ```
    pub fn with<T: Default + Any, U>(&self, f: impl FnOnce(&mut T) -> U) -> Option<U> {
        let slot = self.with_slot(|_, slot| slot.clone())?;
        with(&slot.core, f)
    }

    /// A property: PHP's `$connection->uid = …`. What was there before is dropped.
    pub fn set<T: Any>(&self, value: T) {
        if let Some(slot) = self.with_slot(|_, slot| slot.clone()) {
            set(&slot.core, value);
        }
    }

    /// A copy of it; `None` where it was never set, and on a stale handle.
    pub fn get<T: Any + Clone>(&self) -> Option<T> {
        let slot = self.with_slot(|_, slot| slot.clone())?;
        get(&slot.core)
    }
}
