//! Bad input and bad luck: what each gives.
