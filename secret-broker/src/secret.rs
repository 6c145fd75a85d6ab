//! A value that must not be seen: wiped when dropped, and printed by nothing.
//!
//! `Secret<T>` has no `Display` and no `Serialize`, and its `Debug` shows no content. Every reading of it says `expose`, so that a
//! review finds them all by that word.

use std::fmt;

use zeroize::Zeroize;

/// Holds a `T` that is wiped from memory when dropped.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a value, which nobody else should keep a copy of.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Keep the borrow short and copy nothing out of it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;
    use crate::crypto::Key;

    /// Whether a type has a trait: an associated constant of the type itself, where its bounds hold, goes before one of a trait.
    macro_rules! has {
        ($type:ty: $bound:path) => {{
            #[allow(dead_code, reason = "of no use where the bound always holds")]
            trait Otherwise {
                const HAS: bool = false;
            }
            struct Probe<T: ?Sized>(PhantomData<T>);
            impl<T: ?Sized> Otherwise for Probe<T> {}
            #[allow(dead_code, reason = "of no use where the bound does not hold")]
            impl<T: ?Sized + $bound> Probe<T> {
                const HAS: bool = true;
            }
            Probe::<$type>::HAS
        }};
    }

    #[test]
    fn a_secret_prints_no_content() {
        let secret = Secret::new("hunter2".to_owned());
        assert!(!format!("{secret:?}").contains("hunter2"));
        let key = Key::from_bytes(&[0x41; 64]).unwrap();
        let printed = format!("{key:?}");
        assert!(!printed.contains("65") && !printed.contains("AA"), "{printed}");
    }

    #[test]
    fn a_secret_can_be_neither_copied_nor_shown_nor_serialized() {
        assert!(has!(String: Clone) && has!(String: fmt::Display) && has!(String: serde::Serialize));
        assert!(!has!(Secret<String>: Clone) && !has!(Key: Clone));
        assert!(!has!(Secret<String>: fmt::Display) && !has!(Key: fmt::Display));
        assert!(!has!(Secret<String>: serde::Serialize) && !has!(Key: serde::Serialize));
        assert!(
            !has!(Secret<String>: PartialEq) && !has!(Key: PartialEq),
            "comparing takes time that tells"
        );
    }

    #[test]
    fn a_secret_is_wiped_when_it_goes() {
        struct Witness<'a>(&'a std::cell::Cell<bool>);
        impl Zeroize for Witness<'_> {
            fn zeroize(&mut self) {
                self.0.set(true);
            }
        }
        let wiped = std::cell::Cell::new(false);
        drop(Secret::new(Witness(&wiped)));
        assert!(wiped.get());
    }
}
