// What cuBLAS leaves to do of a dense product.

KERNEL add_bias(stored *Z, const real *b, whole rows, int columns) {
    Walk walk(columns);
    for (; walk.place < rows * columns; walk.next())
        put(Z + walk.place, widened(Z[walk.place]) + b[walk.column]);
}
