/* What a block needs beside its matrices, on float32: norm, rotation, softmax, one query's attention. */

#include "int4_cpu.c"

INLINE float sum_of(floats v)
{
    union { floats wide; floats8 half[2]; float one[LANES]; } u = {.wide = v};
    floats8 h = u.half[0] + u.half[1];
    return ((h[0] + h[4]) + (h[1] + h[5])) + ((h[2] + h[6]) + (h[3] + h[7]));
}

INLINE floats load(const float *p) { return *(const loose_floats *)p; }
INLINE void store(float *p, floats v) { *(loose_floats *)p = v; }

/* e^x: 2^n times e^f with |f| <= ln 2 / 2, by the series to f^7, whose rest is 5e-9. Below -87 it is e^-87; of a
   NaN it is a NaN, so that damaged weights are seen in the logits. */
INLINE floats exponential(floats x)
{
    const ints valid = x == x, whole = (ints)x;
    ints low = x < -87.0f, high = x > 88.0f;
    x = (floats)(((ints)x & ~low & ~high) | ((ints)all(-87.0f) & low) | ((ints)all(88.0f) & high));
    floats n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    floats f = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact in nine bits */
    floats p = all(1.0f / 5040);
    p = multiply_add(p, f, all(1.0f / 720));
    p = multiply_add(p, f, all(1.0f / 120));
    p = multiply_add(p, f, all(1.0f / 24));
    p = multiply_add(p, f, all(1.0f / 6));
    p = multiply_add(p, f, all(0.5f));
    p = multiply_add(p, f, all(1.0f));
    p = multiply_add(p, f, all(1.0f));
    p = (floats)((ints)p + (__builtin_convertvector(n, ints) << 23));
    return (floats)(((ints)p & valid) | (whole & ~valid));
}

static void rms_norm(const float *x, const float *gain, int64_t n, float eps, float *out)
{
    floats squares = all(0.0f);
    for (int64_t i = 0; i < n; i += LANES) squares = multiply_add(load(x + i), load(x + i), squares);
    const float scale = 1.0f / __builtin_sqrtf(sum_of(squares) / (float)n + eps);
    for (int64_t i = 0; i < n; i += LANES) store(out + i, load(x + i) * scale * (gain ? load(gain + i) : all(1.0f)));
}

static void rotate(const float *x, const float *cos, const float *sin, int64_t head_dim, float *out)
{
    const int64_t half = head_dim / 2;
    for (int64_t i = 0; i < half; i += LANES) {
        floats a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i);
        store(out + i, a * c - b * s);
        store(out + half + i, b * c + a * s);
    }
}

/* out (head_dim) of one query over positions 0..n-1 of the cache and a last one beside it; scores: n + 16 floats. */
static void attend(const float *q, const float *keys, const float *values, const float *last_key, const float *last_value,
                   int64_t n, int64_t row, int64_t head_dim, float *scores, float *out)
{
    const float scale = 1.0f / __builtin_sqrtf((float)head_dim);
    float top = -3.4e38f;
    for (int64_t s = 0; s <= n; s++) {
        const float *k = s < n ? keys + s * row : last_key;
        floats sum = all(0.0f);
        for (int64_t i = 0; i < head_dim; i += LANES) sum = multiply_add(load(q + i), load(k + i), sum);
        scores[s] = sum_of(sum) * scale;
        top = scores[s] > top ? scores[s] : top;
    }
    for (int64_t s = n + 1; s % LANES; s++) scores[s] = -3.4e38f;
    floats total = all(0.0f);
    for (int64_t s = 0; s <= n; s += LANES) {
        floats at = load(scores + s), p = exponential(at - top);
        p = (floats)((ints)p & ~(at < -3.3e38f)); /* what only fills the register counts nothing */
        store(scores + s, p);
        total += p;
    }
    const float inverse = 1.0f / sum_of(total);
    for (int64_t i = 0; i < head_dim; i += LANES) {
        floats sum = all(0.0f);
        for (int64_t s = 0; s < n; s++) sum = multiply_add(all(scores[s]), load(values + s * row + i), sum);
        sum = multiply_add(all(scores[n]), load(last_value + i), sum);
        store(out + i, sum * inverse);
    }
}
