/* Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror & Shaw 2011 ("Parallel random numbers: as easy as
 * 1, 2, 3"): four words of 32 random bits from a counter of four words and a key of two. Nothing depends on the element
 * type; all.c includes this once.
 *
 * A word of the counter is the lower half of a 64-bit lane, because a product of two words takes a whole one. What the
 * upper half holds does not matter: products ignore it. */

typedef uint64_t words __attribute__((vector_size(FNN_VBYTES)));
typedef int16_t halves __attribute__((vector_size(FNN_VBYTES)));

enum {
    FNN_WORD_LANES = FNN_VBYTES / 8,
    FNN_HALF_LANES = FNN_VBYTES / 2,
    PHILOX_ROUNDS = 10,
    PHILOX_GROUP = 16, /* counters whose words are made and stored together, whatever the vector length */
};

#define PHILOX_M0 UINT64_C(0xD2511F53)
#define PHILOX_M1 UINT64_C(0xCD9E8D57)
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

/* The keys of the rounds, each a word of its own. */
typedef struct {
    uint64_t k[PHILOX_ROUNDS][2];
} philox_keys;

static philox_keys philox_schedule(uint64_t key)
{
    philox_keys keys;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int r = 0; r < PHILOX_ROUNDS; r++, k0 += PHILOX_W0, k1 += PHILOX_W1)
        keys.k[r][0] = k0, keys.k[r][1] = k1;
    return keys;
}

/* The products of the lower halves of all lanes. */
FNN_INLINE words word_products(words a, words b)
{
#if defined(FNN_BUILD_AVX512)
    return (words)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(FNN_BUILD_AVX2)
    return (words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (words)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & UINT32_MAX) * (b & UINT32_MAX);
#endif
}

/* c becomes the random words of the counters c. */
FNN_INLINE void philox_vectors(const philox_keys *keys, words c[4])
{
    const words m0 = (words){0} + PHILOX_M0, m1 = (words){0} + PHILOX_M1;
#pragma GCC unroll 10
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        const words p0 = word_products(c[0], m0), p1 = word_products(c[2], m1);
        c[0] = (p1 >> 32) ^ c[1] ^ keys->k[r][0];
        c[1] = p1;
        c[2] = (p0 >> 32) ^ c[3] ^ keys->k[r][1];
        c[3] = p0;
    }
}

/* out[k][l] = word k of counter (first + l, high), l < PHILOX_GROUP: counters in two parts of 64 bits. */
FNN_INLINE void philox_group(const philox_keys *keys, uint64_t first, uint64_t high, uint32_t out[4][PHILOX_GROUP])
{
    words step;
    for (int i = 0; i < FNN_WORD_LANES; i++)
        step[i] = 2 * (uint64_t)i;
    for (int l = 0; l < PHILOX_GROUP; l += 2 * FNN_WORD_LANES) {
        const words even = step + (first + (uint64_t)l), odd = even + 1, high0 = (words){0} + high;
        words a[4] = {even, even >> 32, high0, high0 >> 32}, b[4] = {odd, odd >> 32, high0, high0 >> 32};
        philox_vectors(keys, a);
        philox_vectors(keys, b);
        for (int k = 0; k < 4; k++) {
            const words both = (a[k] & UINT32_MAX) | b[k] << 32; /* the order of memory, lower half first */
            memcpy(&out[k][l], &both, sizeof both);
        }
    }
}

/* The first word alone. */
static uint32_t philox_word(const philox_keys *keys, uint64_t low, uint64_t high)
{
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32), c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        const uint64_t p0 = c0 * PHILOX_M0, p1 = c2 * PHILOX_M1;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ (uint32_t)keys->k[r][0];
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ (uint32_t)keys->k[r][1];
        c3 = (uint32_t)p0;
    }
    return c0;
}

/* Bit i of the result: lane i of a comparison holds. */
FNN_INLINE uint32_t half_bits(halves m)
{
#if defined(FNN_BUILD_AVX512)
    return _mm512_movepi16_mask((__m512i)m);
#elif defined(FNN_BUILD_AVX2)
    const uint32_t bits = (uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16((__m256i)m, _mm256_setzero_si256()));
    return (bits & 0xff) | bits >> 8;
#elif defined(__x86_64__)
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16((__m128i)m, _mm_setzero_si128()));
#else
    uint32_t bits = 0;
    for (int i = 0; i < FNN_HALF_LANES; i++)
        bits |= (uint32_t)(m[i] & 1) << i;
    return bits;
#endif
}

/* Which of the FNN_DRAWS elements from `first` on, a multiple of so many, does a Bernoulli trial keep? Bit i % 32 of
 * keep[i / 32].
 *
 * Element first + i draws 16 bits: half i % 2, the lower one first, of word i / 32 of counter (first + i) / 8 rounded down
 * to a multiple of 16, plus i % 32 / 2. As a signed number they are compared with the threshold. Where they equal it,
 * 32 further bits decide, word 0 of counter first + i with the top bit set, so that the probability is a multiple of
 * 2^-48. */
FNN_INLINE void bernoulli(const philox_keys *keys, const fnn_bernoulli *b, ptrdiff_t first,
                          uint32_t keep[FNN_DRAWS / 32])
{
    uint32_t drawn[4][PHILOX_GROUP];
    int16_t half[FNN_DRAWS];
    const halves threshold = (halves){0} + b->threshold;
    halves ties = {0};
    philox_group(keys, (uint64_t)first / 8, b->offset, drawn);
    memcpy(half, drawn, sizeof half);
    for (int w = 0; w < FNN_DRAWS / 32; w++) {
        uint32_t dropped = 0;
        for (int i = 0; i < 32; i += FNN_HALF_LANES) {
            halves v;
            memcpy(&v, half + 32 * w + i, sizeof v);
            dropped |= half_bits(v < threshold) << i;
            ties |= v == threshold;
        }
        keep[w] = ~dropped;
    }
    if (b->rest && half_bits(ties))
        for (int i = 0; i < FNN_DRAWS; i++)
            if (half[i] == b->threshold &&
                philox_word(keys, (uint64_t)(first + i) | UINT64_C(1) << 63, b->offset) < b->rest)
                keep[i / 32] &= ~(UINT32_C(1) << i % 32);
}
