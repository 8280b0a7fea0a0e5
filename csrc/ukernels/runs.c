/* Vectors of elements that lie in several runs of memory. */

/* The lanes of a vector that one run gives, and where they would start if all came from there. */
typedef struct {
    lanes m;
    ptrdiff_t at;
} FN(piece);

/* The pieces of vector v of the runs' elements; returns how many. */
FNN_INLINE int FN(cut_runs)(ptrdiff_t nruns, const fnn_run *runs, ptrdiff_t v, FN(piece) *pieces)
{
    int n = 0;
    ptrdiff_t low = -v * VL; /* of the run's first lane */
    for (ptrdiff_t r = 0; r < nruns && low < VL; low += runs[r++].length)
        if (low + runs[r].length > 0)
            pieces[n++] = (FN(piece)){vbetween(low, low + runs[r].length), runs[r].start - low};
    return n;
}

FNN_INLINE vec FN(join_pieces)(const FN(piece) *pieces, int n, const real *row)
{
    vec v = {0};
    for (int i = 0; i < n; i++)
        v = vload_more(v, pieces[i].m, row + pieces[i].at);
    return v;
}
