/* Philox4x32-7, the counter-based generator of Salmon, Moraes, Dror & Shaw 2011 ("Parallel random numbers: as easy as
 * 1, 2, 3"): four words of 32 random bits from a counter of four words and a key of two. Seven rounds are the fewest
 * that pass all tests of BigCrush there; the ten of other libraries are a margin. Nothing depends on the element type;
 * all.c includes this once.
 *
 * A word of the counter is the lower half of a 64-bit lane, because a product of two words takes a whole one. What the
 * upper half holds does not matter: products ignore it. */

typedef uint64_t words __attribute__((vector_size(FNN_VBYTES)));
typedef int16_t halves __attribute__((vector_size(FNN_VBYTES)));

enum {
    FNN_WORD_LANES = FNN_VBYTES / 8,
    FNN_HALF_LANES = FNN_VBYTES / 2,
    PHILOX_ROUNDS = 7,
    PHILOX_GROUP = 16, /* counters whose words are stored together, whatever the vector length */
#if defined(FNN_BUILD_AVX512)
    PHILOX_CHAINS = 4, /* vectors of counters at a time, of four registers each: multiplications take some cycles */
#else
    PHILOX_CHAINS = 2,
#endif
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

/* The random words of consecutive counters, first + l for l < FNN_DRAWS / 8, and `high`, two parts of 64 bits: word k
 * goes to out[l / 16][k][l % 16]. */
FNN_INLINE void philox_words(const philox_keys *keys, uint64_t first, uint64_t high, uint32_t out[][4][PHILOX_GROUP])
{
    const words m0 = (words){0} + PHILOX_M0, m1 = (words){0} + PHILOX_M1, high0 = (words){0} + high;
    words step;
    for (int i = 0; i < FNN_WORD_LANES; i++)
        step[i] = 2 * (uint64_t)i;
    for (int l = 0; l < FNN_DRAWS / 8; l += PHILOX_CHAINS * FNN_WORD_LANES) {
        words c[PHILOX_CHAINS][4]; /* of two neighbours, even and odd counters */
#pragma GCC unroll 4
        for (int j = 0; j < PHILOX_CHAINS; j++) {
            const words low = step + (first + (uint64_t)(l + j / 2 * 2 * FNN_WORD_LANES + j % 2));
            c[j][0] = low, c[j][1] = low >> 32, c[j][2] = high0, c[j][3] = high0 >> 32;
        }
#pragma GCC unroll 7
        for (int r = 0; r < PHILOX_ROUNDS; r++)
#pragma GCC unroll 4
            for (int j = 0; j < PHILOX_CHAINS; j++) {
                const words p0 = word_products(c[j][0], m0), p1 = word_products(c[j][2], m1);
                c[j][0] = (p1 >> 32) ^ c[j][1] ^ keys->k[r][0];
                c[j][1] = p1;
                c[j][2] = (p0 >> 32) ^ c[j][3] ^ keys->k[r][1];
                c[j][3] = p0;
            }
#pragma GCC unroll 4
        for (int j = 0; j < PHILOX_CHAINS; j += 2) {
            const int at = l + j * FNN_WORD_LANES;
            for (int k = 0; k < 4; k++) {
                const words both = (c[j][k] & UINT32_MAX) | c[j + 1][k] << 32; /* in memory the lower half is first */
                memcpy(&out[at / PHILOX_GROUP][k][at % PHILOX_GROUP], &both, sizeof both);
            }
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
 * Element e draws 16 bits: half e % 2, the lower one first, of word e / 32 % 4 of counter e / 128 * 16 + e % 32 / 2. As
 * a signed number they are compared with the threshold. Where they equal it, 32 further bits decide, word 0 of counter
 * 2^63 + e, so that the probability is a multiple of 2^-48. */
FNN_INLINE void bernoulli(const philox_keys *keys, const fnn_bernoulli *b, ptrdiff_t first,
                          uint32_t keep[FNN_DRAWS / 32])
{
    uint32_t drawn[FNN_DRAWS / 8 / PHILOX_GROUP][4][PHILOX_GROUP];
    int16_t half[FNN_DRAWS];
    const halves threshold = (halves){0} + b->threshold;
    halves ties = {0};
    philox_words(keys, (uint64_t)first / 8, b->offset, drawn);
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
