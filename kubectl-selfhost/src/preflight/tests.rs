//! Tables of [`super`].
