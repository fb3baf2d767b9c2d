/* y = x W^T on a CPU, W packed in 4 or 8 bits, x rounded to 8 bits a step of inputs; for one row and for many.

   W lies in blocks of 16 outputs, written by int4_cpu.py: one 64-byte unit holds, for each output, 8 inputs in
   4 bits (low nibbles the first four) or 4 inputs in 8 bits. So a lane of a register is an output, nothing is
   summed across lanes, and a row's result does not depend on how many rows, threads or lanes there are: sums
   within a step are whole numbers, and steps are added in one order with fused multiply-adds. Both ways
   below (AVX-512 with VNNI, and AVX2) give the same bits.

   Threads are those of the caller's OpenMP, handed in by address: a pool of our own would fight torch's for
   the cores. */

#include <stdint.h>
#include <stddef.h>

typedef int32_t ints __attribute__((vector_size(64)));
typedef float floats __attribute__((vector_size(64)));
typedef uint8_t bytes __attribute__((vector_size(64)));
typedef ints loose_ints __attribute__((aligned(1)));
typedef floats loose_floats __attribute__((aligned(1)));
typedef bytes loose_bytes __attribute__((aligned(1)));
typedef int32_t ints8 __attribute__((vector_size(32)));
typedef float floats8 __attribute__((vector_size(32)));
typedef int8_t signs8 __attribute__((vector_size(8)));
typedef floats8 loose_floats8 __attribute__((aligned(1)));
typedef signs8 loose_signs8 __attribute__((aligned(1)));
typedef int32_t loose_int __attribute__((aligned(1)));

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define ROWS 8          /* of x that are multiplied by a unit while it is in registers */
#define CHUNK 256       /* rows whose rounded inputs stay in a core's cache */
#define SPINS 2000      /* some 50 microseconds */
#define MIN_WORK 100000 /* products below which a second thread costs more than it gives */

struct matrix {
    const uint8_t *units;   /* (out/16, in/8 or in/4, 64) */
    const uint16_t *scales; /* fp16 (out/16, in/group, 16) */
    int64_t out, in, group, step, bits;
};

/* ---- the two ways: 64 products of unsigned by signed bytes, four to a lane, and 16 multiply-adds ---- */

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>
INLINE ints dot(ints sum, bytes w, int32_t x)
{
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(x));
}
INLINE ints dot8(ints sum, bytes w, int32_t x) { return dot(sum, w, x); }
INLINE floats multiply_add(floats a, floats b, floats c) { return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE floats halves(const uint16_t *p) { return (floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
union wide { ints i; floats f; bytes b; __m256i h[2]; __m256 g[2]; };
INLINE ints dot(ints sum, bytes w, int32_t x) /* codes up to 15: two products fit 16 bits */
{
    union wide s = {.i = sum}, u = {.b = w};
    for (int i = 0; i < 2; i++) {
        __m256i pairs = _mm256_maddubs_epi16(u.h[i], _mm256_set1_epi32(x));
        s.h[i] = _mm256_add_epi32(s.h[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return s.i;
}
INLINE ints dot8(ints sum, bytes w, int32_t x) /* codes up to 255: even and odd bytes apart */
{
    union wide s = {.i = sum}, u = {.b = w};
    __m256i xs = _mm256_set1_epi32(x);
    __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(xs, 8), 8), x_odd = _mm256_srai_epi16(xs, 8);
    for (int i = 0; i < 2; i++) {
        __m256i even = _mm256_and_si256(u.h[i], _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(u.h[i], 8);
        s.h[i] = _mm256_add_epi32(s.h[i], _mm256_madd_epi16(even, x_even));
        s.h[i] = _mm256_add_epi32(s.h[i], _mm256_madd_epi16(odd, x_odd));
    }
    return s.i;
}
INLINE floats multiply_add(floats a, floats b, floats c)
{
    union wide u = {.f = a}, v = {.f = b}, w = {.f = c};
    for (int i = 0; i < 2; i++) w.g[i] = _mm256_fmadd_ps(u.g[i], v.g[i], w.g[i]);
    return w.f;
}
INLINE floats halves(const uint16_t *p)
{
    union wide u;
    for (int i = 0; i < 2; i++) u.g[i] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8 * i)));
    return u.f;
}
#else
#error "AVX2 with FMA and F16C, or AVX-512 with VNNI, is needed"
#endif

INLINE floats all(float v) { return (floats){0} + v; }
INLINE ints all_int(int32_t v) { return (ints){0} + v; }

/* ---- threads ---- */

typedef void body(void *argument);
static void (*run_parallel)(body *, void *, unsigned, unsigned);
static int (*thread_number)(void), (*team_size)(void), (*give_way)(void);

/* Take libgomp's GOMP_parallel, omp_get_thread_num and omp_get_num_threads, and sched_yield. */
void use_threads(void *parallel, void *number, void *size, void *yield)
{
    run_parallel = (void (*)(body *, void *, unsigned, unsigned))parallel;
    thread_number = (int (*)(void))number;
    team_size = (int (*)(void))size;
    give_way = (int (*)(void))yield;
}

static void run(body *work, void *argument, int64_t threads)
{
    if (threads > 1 && run_parallel) run_parallel(work, argument, (unsigned)threads, 0);
    else work(argument);
}

struct team { int alone, arrived, round; }; /* `alone`: the work was not given to a team */

/* Wait until the whole team is here. A token has a hundred of these, microseconds apart: who sleeps each time is woken
   too late, so a thread looks SPINS times, and from then on offers its core to others between two looks. */
static void meet(struct team *t)
{
    if (t->alone) return;
    const int round = __atomic_load_n(&t->round, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&t->arrived, 1, __ATOMIC_ACQ_REL) == team_size()) {
        __atomic_store_n(&t->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&t->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int looks = 0; __atomic_load_n(&t->round, __ATOMIC_ACQUIRE) == round; looks++)
        if (looks < SPINS) __builtin_ia32_pause();
        else looks = SPINS, give_way();
}

struct share { int64_t first, last; };

/* A thread's part of 0..n-1. `alone`: the work was not given to a team. */
static struct share my_share(int64_t n, int alone)
{
    int64_t size = alone ? 1 : team_size(), me = alone ? 0 : thread_number();
    return (struct share){n * me / size, n * (me + 1) / size};
}

/* ---- x in 8 bits: per step the largest magnitude becomes 127; a NaN or an infinity stays visible in the scale ---- */

static void round_row(const float *x, int64_t in, int64_t step, int32_t zero, int8_t *q, float *scales, int32_t *starts)
{
    for (int64_t s = 0; s < in / step; s++, x += step, q += step) {
        ints8 top = {0};
        for (int64_t i = 0; i < step; i += 8) { /* magnitudes as whole numbers keep their order */
            ints8 bits = (ints8) * (const loose_floats8 *)(x + i) & 0x7fffffff, more = bits > top;
            top = (bits & more) | (top & ~more);
        }
        int32_t largest = 0;
        for (int i = 0; i < 8; i++) largest = top[i] > largest ? top[i] : largest;
        float magnitude;
        __builtin_memcpy(&magnitude, &largest, 4);
        float inverse = magnitude < 1e-30f ? 0.0f : 127.0f / magnitude; /* a NaN divides */
        ints8 sum = {0};
        for (int64_t i = 0; i < step; i += 8) {
            floats8 near = *(const loose_floats8 *)(x + i) * inverse + 12582912.0f; /* 1.5 * 2^23 rounds to even */
            ints8 whole = (ints8)near - 0x4b400000;
            sum += whole;
            *(loose_signs8 *)(q + i) = __builtin_convertvector(whole, signs8);
        }
        int32_t total = 0;
        for (int i = 0; i < 8; i++) total += sum[i];
        scales[s] = magnitude < 1e-30f ? 0.0f : magnitude / 127.0f;
        starts[s] = -zero * total; /* a code's zero, taken off before the first product */
    }
}

/* ---- rows of rounded x by one block of 16 outputs ---- */

struct rounded { int8_t *q; float *scales; int32_t *starts; };

INLINE void tile(const struct matrix *w, int64_t block, struct rounded x, const int n, const int bits, float *y, int64_t y_stride)
{
    const int64_t steps = w->in / w->step, per_unit = bits == 4 ? 8 : 4, units = w->step / per_unit;
    const uint8_t *p = w->units + block * (w->in / per_unit) * 64;
    const uint16_t *scale = w->scales + block * (w->in / w->group) * LANES;
    const int64_t steps_in_group = w->group / w->step;
    floats total[ROWS];
    for (int r = 0; r < n; r++) total[r] = all(0.0f);
    const int8_t *q = x.q;
    for (int64_t s = 0, left = steps_in_group; s < steps; s++) {
        ints sum[ROWS], more[ROWS];
        for (int r = 0; r < n; r++) sum[r] = all_int(x.starts[r * steps + s]), more[r] = all_int(0);
        for (int64_t u = 0; u < units; u++, p += 64, q += per_unit) {
            bytes unit = *(const loose_bytes *)p;
            if (bits == 4) {
                bytes low = unit & 15, high = (bytes)((ints)unit >> 4) & 15;
                for (int r = 0; r < n; r++) {
                    sum[r] = dot(sum[r], low, *(const loose_int *)(q + r * w->in));
                    if (n > 4) sum[r] = dot(sum[r], high, *(const loose_int *)(q + r * w->in + 4));
                    else more[r] = dot(more[r], high, *(const loose_int *)(q + r * w->in + 4)); /* a chain of its own */
                }
            } else {
                for (int r = 0; r < n; r++) sum[r] = dot8(sum[r], unit, *(const loose_int *)(q + r * w->in));
            }
        }
        floats w_scale = halves(scale);
        if (--left == 0) scale += LANES, left = steps_in_group;
        for (int r = 0; r < n; r++) {
            if (n <= 4) sum[r] += more[r];
            total[r] = multiply_add(__builtin_convertvector(sum[r], floats), w_scale * all(x.scales[r * steps + s]), total[r]);
        }
    }
    const int64_t first = block * LANES, outputs = w->out - first < LANES ? w->out - first : LANES;
    for (int r = 0; r < n; r++) {
        float *to = y + r * y_stride + first;
        if (outputs == LANES) *(loose_floats *)to = total[r];
        else for (int64_t i = 0; i < outputs; i++) to[i] = total[r][i];
    }
}

INLINE void tiles(const struct matrix *w, int64_t block, struct rounded x, int n, const int bits, float *y, int64_t y_stride)
{
    switch (n) { /* each its own code, so that a row's sums stay in registers */
    case 1: tile(w, block, x, 1, bits, y, y_stride); break;
    case 2: tile(w, block, x, 2, bits, y, y_stride); break;
    case 3: tile(w, block, x, 3, bits, y, y_stride); break;
    case 4: tile(w, block, x, 4, bits, y, y_stride); break;
    case 5: tile(w, block, x, 5, bits, y, y_stride); break;
    case 6: tile(w, block, x, 6, bits, y, y_stride); break;
    case 7: tile(w, block, x, 7, bits, y, y_stride); break;
    default: tile(w, block, x, 8, bits, y, y_stride); break;
    }
}

/* Write y (rows, out) for the blocks of `mine`; rows are taken CHUNK at a time, ROWS of them at once. */
static void multiply(const struct matrix *w, struct share mine, struct rounded x, int64_t rows, float *y, int64_t y_stride)
{
    const int64_t steps = w->in / w->step;
    for (int64_t from = 0; from < rows; from += CHUNK) {
        const int64_t to = from + CHUNK < rows ? from + CHUNK : rows;
        for (int64_t block = mine.first; block < mine.last; block++)
            for (int64_t r = from; r < to; r += ROWS) {
                struct rounded here = {x.q + r * w->in, x.scales + r * steps, x.starts + r * steps};
                int n = (int)(to - r < ROWS ? to - r : ROWS);
                if (w->bits == 4) tiles(w, block, here, n, 4, y + r * y_stride, y_stride);
                else tiles(w, block, here, n, 8, y + r * y_stride, y_stride);
            }
    }
}

struct job { const struct matrix *w; const float *x; struct rounded rounded; int64_t rows; float *y; int alone; };

static void round_rows(void *argument)
{
    struct job *j = argument;
    struct share mine = my_share(j->rows, j->alone);
    const int64_t in = j->w->in, steps = in / j->w->step;
    for (int64_t r = mine.first; r < mine.last; r++)
        round_row(j->x + r * in, in, j->w->step, j->w->bits == 4 ? 8 : 128, j->rounded.q + r * in,
                  j->rounded.scales + r * steps, j->rounded.starts + r * steps);
}

static void multiply_rows(void *argument)
{
    struct job *j = argument;
    multiply(j->w, my_share((j->w->out + LANES - 1) / LANES, j->alone), j->rounded, j->rows, j->y, j->w->out);
}

/* y (rows, out) = x (rows, in) W^T. Scratch, of the caller: rows x in bytes, and twice rows x in/step of 4 bytes. */
void linear(const struct matrix *w, const float *x, int64_t rows, float *y, int8_t *q, float *scales, int32_t *starts,
            int64_t threads)
{
    struct job j = {w, x, {q, scales, starts}, rows, y, 0};
    const int64_t work = rows * w->in * w->out;
    int64_t team = work < MIN_WORK || !run_parallel ? 1 : threads;
    int64_t rounding_team = rows * w->in < MIN_WORK ? 1 : team;
    j.alone = rounding_team == 1;
    run(round_rows, &j, rounding_team);
    j.alone = team == 1;
    run(multiply_rows, &j, team);
}
