/* Tokens through the blocks of a Llama-shaped model with packed weights, where an eager step is some sixty calls a
   block. One token of one sequence takes one call and one team of threads for the whole stack; for any rows there
   is a call before and one behind a block's attention, which is then the caller's. Norms, rotation, softmax and the
   residual stream are float32; keys and values go to and come from the caller. The matrices are int4_cpu.c's,
   norm, rotation and attention block_math.c's. */

#include "block_math.c"

struct layer {
    struct matrix q, k, v, o, gate, up, down;
    const float *attention_gain, *ffn_gain; /* (dim), or null */
    const float *q_gain, *k_gain;           /* (head_dim), or null */
};

struct stack {
    const struct layer *layers;
    int64_t n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, max_seq_len;
    double eps;
    int64_t qk_norm; /* whether each head of q and k has a norm of its own */
};

struct step {
    const struct stack *stack;
    float *x;              /* (dim), in and out */
    float *keys, *values;  /* (layers, max_seq_len, kv heads, head_dim), layers `stride` floats apart */
    int64_t stride, position;
    const float *cos, *sin; /* (head_dim / 2) of this position */
    float *shared, *own;    /* scratch: of the team, and `own_size` floats a thread */
    int64_t own_size;
    struct team *team;
};

/* A head of q or of k as attention sees it; out may be x. */
static void turn_head(const struct stack *s, const float *x, const float *gain, const float *cos, const float *sin, float *out)
{
    if (s->qk_norm) rms_norm(x, gain, s->head_dim, (float)s->eps, out), x = out;
    rotate(x, cos, sin, s->head_dim, out);
}

struct mine { float *h, *k, *q, *scores; struct rounded rounded; }; /* a thread's own scratch */

/* Round x for w, and write this thread's outputs of w x; return them as a range of floats. */
static struct share product(const struct matrix *w, struct rounded x, int alone, float *y)
{
    struct share blocks = my_share((w->out + LANES - 1) / LANES, alone);
    multiply(w, blocks, x, 1, y, w->out);
    struct share outputs = {blocks.first * LANES, blocks.last * LANES < w->out ? blocks.last * LANES : w->out};
    return outputs;
}

static void round_for(const struct matrix *w, const float *x, struct rounded out)
{
    round_row(x, w->in, w->step, w->bits == 4 ? 8 : 128, out.q, out.scales, out.starts);
}

static void block_step(struct step *t, const struct layer *l, float *keys, float *values, struct mine m)
{
    const struct stack *s = t->stack;
    const int64_t d = s->head_dim, kv = s->n_kv_heads * d, width = s->n_heads * d, row = kv;
    float *q = t->shared, *k = q + width, *v = k + kv, *seen = v + kv, *added = seen + width, *gate = added + s->dim;
    float *up = gate + s->ffn_dim;
    const int me = t->team->alone ? 0 : thread_number();

    rms_norm(t->x, l->attention_gain, s->dim, (float)s->eps, m.h); /* every thread for itself: cheaper than to meet */
    round_for(&l->q, m.h, m.rounded);
    product(&l->q, m.rounded, t->team->alone, q);
    product(&l->k, m.rounded, t->team->alone, k);
    product(&l->v, m.rounded, t->team->alone, v);
    meet(t->team);

    for (int64_t g = 0; g < s->n_kv_heads; g++) turn_head(s, k + g * d, l->k_gain, t->cos, t->sin, m.k + g * d);
    if (me == 0) { /* nobody reads this position from the cache in this step */
        __builtin_memcpy(keys + t->position * row, m.k, sizeof(float) * (size_t)kv);
        __builtin_memcpy(values + t->position * row, v, sizeof(float) * (size_t)kv);
    }
    struct share heads = my_share(s->n_heads, t->team->alone);
    for (int64_t h = heads.first; h < heads.last; h++) {
        const int64_t g = h * s->n_kv_heads / s->n_heads * d;
        turn_head(s, q + h * d, l->q_gain, t->cos, t->sin, m.q);
        attend(m.q, keys + g, values + g, m.k + g, v + g, t->position, row, d, m.scores, seen + h * d);
    }
    meet(t->team);

    round_for(&l->o, seen, m.rounded);
    struct share part = product(&l->o, m.rounded, t->team->alone, added);
    for (int64_t i = part.first; i < part.last; i++) t->x[i] += added[i];
    meet(t->team);

    rms_norm(t->x, l->ffn_gain, s->dim, (float)s->eps, m.h);
    round_for(&l->gate, m.h, m.rounded);
    product(&l->gate, m.rounded, t->team->alone, gate);
    part = product(&l->up, m.rounded, t->team->alone, up);
    for (int64_t i = part.first; i < part.last; i += LANES) { /* ffn_dim is a multiple of LANES */
        floats g = load(gate + i);
        store(gate + i, g / (1.0f + exponential(-g)) * load(up + i));
    }
    meet(t->team);

    round_for(&l->down, gate, m.rounded);
    part = product(&l->down, m.rounded, t->team->alone, added);
    for (int64_t i = part.first; i < part.last; i++) t->x[i] += added[i];
    meet(t->team);
}

static void all_blocks(void *argument)
{
    struct step *t = argument;
    const struct stack *s = t->stack;
    const int64_t wide = s->dim > s->ffn_dim ? s->dim : s->ffn_dim;
    float *own = t->own + (t->team->alone ? 0 : thread_number()) * t->own_size;
    struct mine m = {.h = own, .q = own + s->dim};
    m.k = m.q + s->head_dim;
    m.rounded.scales = m.k + s->n_kv_heads * s->head_dim;
    m.rounded.starts = (int32_t *)(m.rounded.scales + wide / 8);
    m.rounded.q = (int8_t *)(m.rounded.starts + wide / 8);
    m.scores = (float *)(m.rounded.q + wide);
    for (int64_t i = 0; i < s->n_layers; i++)
        block_step(t, s->layers + i, t->keys + i * t->stride, t->values + i * t->stride, m);
}

/* Floats of scratch: a thread's own, and the team's. */
int64_t own_floats(const struct stack *s)
{
    const int64_t wide = s->dim > s->ffn_dim ? s->dim : s->ffn_dim;
    return (s->dim + s->head_dim * (1 + s->n_kv_heads) + wide / 2 + s->max_seq_len + 3 * LANES) / LANES * LANES + LANES;
}

int64_t shared_floats(const struct stack *s)
{
    return 2 * (s->n_heads + s->n_kv_heads) * s->head_dim + s->dim + 2 * s->ffn_dim;
}

/* x (dim) of one token goes through all blocks, in place; its keys and values are stored at `position`. */
void decode_step(const struct stack *stack, float *x, float *keys, float *values, int64_t stride, int64_t position,
                 const float *cos, const float *sin, float *scratch, int64_t threads)
{
    struct team team = {.alone = threads == 1 || !run_parallel};
    struct step t = {stack, x, keys, values, stride, position, cos, sin, scratch, scratch + shared_floats(stack),
                     own_floats(stack), &team};
    run(all_blocks, &t, threads);
}

/* ---- any rows, one block, its attention left to the caller ---- */

struct part {
    const struct stack *stack;
    const struct layer *layer;
    int64_t rows;
    float *x;               /* (rows, dim), in and out */
    const float *cos, *sin; /* (rows, head_dim / 2) */
    float *q, *k, *v;       /* (rows, heads, head_dim): out */
    const float *seen;      /* (rows, dim): what attention saw, in */
    float *scratch;
    struct team *team;
};

struct many { float *added, *gate, *up, *own; struct rounded rounded; };

static struct many split_scratch(const struct part *t)
{
    const struct stack *s = t->stack;
    const int64_t wide = s->dim > s->ffn_dim ? s->dim : s->ffn_dim;
    struct many m = {.added = t->scratch};
    m.gate = m.added + t->rows * s->dim;
    m.up = m.gate + t->rows * s->ffn_dim;
    m.rounded.scales = m.up + t->rows * s->ffn_dim;
    m.rounded.starts = (int32_t *)(m.rounded.scales + t->rows * (wide / 8));
    m.rounded.q = (int8_t *)(m.rounded.starts + t->rows * (wide / 8));
    m.own = (float *)(m.rounded.q + t->rows * wide) + (t->team->alone ? 0 : thread_number()) * s->dim;
    return m;
}

/* Floats of scratch for so many rows and threads. */
int64_t part_floats(const struct stack *s, int64_t rows, int64_t threads)
{
    const int64_t wide = s->dim > s->ffn_dim ? s->dim : s->ffn_dim;
    return rows * (s->dim + 2 * s->ffn_dim + wide / 2) + threads * s->dim;
}

/* Round a thread's rows of x (rows, in) for w, after a norm if `gain` is not null; then meet. */
static void round_share(const struct part *t, const struct matrix *w, const float *x, int normed, const float *gain, struct many m)
{
    struct share rows = my_share(t->rows, t->team->alone);
    const int64_t steps = w->in / w->step;
    for (int64_t r = rows.first; r < rows.last; r++) {
        const float *row = x + r * w->in;
        struct rounded here = {m.rounded.q + r * w->in, m.rounded.scales + r * steps, m.rounded.starts + r * steps};
        if (normed) rms_norm(row, gain, w->in, (float)t->stack->eps, m.own), row = m.own;
        round_for(w, row, here);
    }
    meet(t->team);
}

static struct share products(const struct part *t, const struct matrix *w, struct many m, float *y)
{
    struct share blocks = my_share((w->out + LANES - 1) / LANES, t->team->alone);
    multiply(w, blocks, m.rounded, t->rows, y, w->out);
    return (struct share){blocks.first * LANES, blocks.last * LANES < w->out ? blocks.last * LANES : w->out};
}

static void before(void *argument)
{
    const struct part *t = argument;
    const struct stack *s = t->stack;
    const struct layer *l = t->layer;
    struct many m = split_scratch(t);
    const int64_t d = s->head_dim;
    round_share(t, &l->q, t->x, 1, l->attention_gain, m);
    products(t, &l->q, m, t->q);
    products(t, &l->k, m, t->k);
    products(t, &l->v, m, t->v);
    meet(t->team);
    struct share rows = my_share(t->rows, t->team->alone);
    for (int64_t r = rows.first; r < rows.last; r++) {
        const float *cos = t->cos + r * (d / 2), *sin = t->sin + r * (d / 2);
        float *q = t->q + r * s->n_heads * d, *k = t->k + r * s->n_kv_heads * d;
        for (int64_t h = 0; h < s->n_heads; h++) turn_head(s, q + h * d, l->q_gain, cos, sin, q + h * d);
        for (int64_t g = 0; g < s->n_kv_heads; g++) turn_head(s, k + g * d, l->k_gain, cos, sin, k + g * d);
    }
}

static void add_share(const struct part *t, struct share part, const float *added)
{
    const int64_t dim = t->stack->dim;
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t i = part.first; i < part.last; i++) t->x[r * dim + i] += added[r * dim + i];
}

static void behind(void *argument)
{
    const struct part *t = argument;
    const struct stack *s = t->stack;
    const struct layer *l = t->layer;
    struct many m = split_scratch(t);
    round_share(t, &l->o, t->seen, 0, NULL, m);
    add_share(t, products(t, &l->o, m, m.added), m.added);
    meet(t->team);
    round_share(t, &l->gate, t->x, 1, l->ffn_gain, m);
    products(t, &l->gate, m, m.gate);
    struct share part = products(t, &l->up, m, m.up);
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t i = r * s->ffn_dim + part.first; i < r * s->ffn_dim + part.last; i += LANES) {
            floats g = load(m.gate + i);
            store(m.gate + i, g / (1.0f + exponential(-g)) * load(m.up + i));
        }
    meet(t->team);
    round_share(t, &l->down, m.gate, 0, NULL, m);
    add_share(t, products(t, &l->down, m, m.added), m.added);
}

/* q, k and v of x (rows, dim), normed, projected and rotated. */
void before_attention(const struct stack *stack, int64_t layer, int64_t rows, float *x, const float *cos, const float *sin,
                      float *q, float *k, float *v, float *scratch, int64_t threads)
{
    struct team team = {.alone = threads == 1 || !run_parallel};
    struct part t = {stack, stack->layers + layer, rows, x, cos, sin, q, k, v, NULL, scratch, &team};
    run(before, &t, threads);
}

/* x (rows, dim) takes in what attention saw, and goes through the feed-forward, in place. */
void behind_attention(const struct stack *stack, int64_t layer, int64_t rows, float *x, const float *seen, float *scratch,
                      int64_t threads)
{
    struct team team = {.alone = threads == 1 || !run_parallel};
    struct part t = {stack, stack->layers + layer, rows, x, NULL, NULL, NULL, NULL, NULL, seen, scratch, &team};
    run(behind, &t, threads);
}
