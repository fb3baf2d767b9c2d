"""Every tolerance of the suite, with its reason. Absolute, fp32, unless the name says otherwise."""

TOLERANCE = {
    # FAISS sums 256 products of order 10 in float32 in another order than numpy
    "faiss_vs_numpy": 1e-4,
    # the same products on memory that is aligned otherwise; vectors of length one
    "embedding_read_back": 1e-6,
    # the same equation in another order of operations
    "attention_vs_reference": 1e-5,
    # against float64; results reach 4, where rounding them alone costs 1e-3 in fp16 and 8e-3 in bf16
    "flash_vs_sdpa_float32": 1e-6,
    "flash_vs_sdpa_float16": 1e-3,
    "flash_vs_sdpa_bfloat16": 1.6e-2,
    # scores of 900 carry a rounding of 6e-5 in fp32, and so do the probabilities
    "flash_large_scores": 2e-4,
    "flash_log_sum_exp": 2e-6,
    # two kernels that round at other places; not run yet, no GPU was at hand
    "flash_gpu_times_sdpa": 2.0,
    # bfloat16 results of order 4 whose tiles begin elsewhere; not run yet
    "flash_gpu_documents": 6e-2,
    # four large steps, each of which magnifies the rounding before it
    "flash_training_loss": 1e-5,
    # float32 against float64, gradients times 7; in bfloat16 the same products in another order
    "chunked_vs_whole_loss": 2e-6,
    "chunked_bfloat16_gradient": 2e-3,
    # products of 4,096 fp16 numbers, relative to the largest gradient
    "chunked_float16_relative": 4e-3,
    # a whole model's gradients, relative to a parameter's largest; the head's products in another order
    "head_loss_gradient": 2e-5,
    "head_loss_gradient_bfloat16": 2e-2,
    "head_loss_twelve_steps": 1e-5,
    # against float64: sums of some 24 numbers in float32, relative to the largest result where that is over 1
    "fused_vs_plain_float32": 2e-6,
    "fused_vs_plain_float16": 2e-3,
    # a whole model's gradients, relative to a parameter's largest
    "fused_model_gradient": 2e-5,
    # 288 products, relative to the largest result; fp16 rounds a weight before it is multiplied
    "w4a16_relative_float32": 1e-6,
    "w4a16_relative_float16": 2e-3,
    "logits_cached_vs_uncached": 1e-4,
    "logits_vs_handwritten": 1e-4,
    # transformers' kernels sum in another order; logits of toys reach 4, SmolLM2's 37
    "logits_vs_transformers": 1e-5,
    "logits_vs_transformers_smollm2": 2e-4,
    # sums over a row's masked positions instead of a document's own, logits of order 10
    "logits_packed_vs_alone": 1e-4,
    # the same for gradients, relative to a parameter's largest
    "gradients_packed_vs_alone": 1e-4,
    # W x + s B (A x) against (W + s B A) x, logits of order 10
    "lora_merged_vs_unmerged": 1e-5,
    # transformers' kernels sum in another order; logits of order 10, gradients relative to the largest
    "logits_vs_peft": 1e-5,
    "gradients_vs_peft": 1e-4,
    # float32 products of 64 terms of order 1; gradients relative to their largest
    "low_rank_vs_float64": 1e-5,
    "moe_vs_loop": 1e-5,
    "grouped_vs_loop": 1e-5,
    # Newton-Schulz on the Gram matrix against the same on the matrix, entries of order 1/16
    "muon_gram_vs_matrix": 1e-5,
    # RMSNorm's eps is C/C' of the parent's after widening: a difference of order eps
    "widened_loss": 1e-4,
    # zero-output blocks and equal experts add nothing: rounding alone
    "deepened_loss": 0.0,
    "upcycled_loss": 1e-5,
    "adamw_vs_torch": 1e-6,
    # fifty fused steps against fifty plain ones, weights of order 0.1: a few float32 roundings
    "adamw_50_steps_vs_torch": 2e-6,
    # the same Newton-Schulz with matrices stacked: rounding, fifty times a rate of 0.02
    "muon_50_steps_vs_torch_fp32": 2e-5,
    # torch's runs in bfloat16 (relative rounding 2^-8), ours in float32
    "muon_50_steps_vs_torch_bf16": 4e-3,
    # a table's float32 logits against float64 probabilities
    "bigram_loss_vs_pairs": 1e-5,
    # a sampled expectation: four standard errors of 200 tables (0.08 each), plus the formula's second order
    "bigram_start_vs_formula": 0.03,
    # five quintic steps bring singular values into 0.7..1.2, not to 1
    "muon_singular_value": 0.35,
    # the same sums in another order
    "int4_matmul_vs_dense": 1e-5,
    # sums over groups in float32 against float64, the same rounding of the inputs; relative to the largest
    "int4_cpu_vs_float64": 1e-6,
    # inputs, scales and results in bf16, each rounded by up to 2^-9; relative to the result's length
    "int4_torch_vs_reference": 5e-3,
    # the stack in C against the modules: float32 rounding; and where that moves an 8-bit input over a half, a
    # 127th of it through the layers behind; logits of order 1
    "cpu_decoder_vs_modules": 1e-4,
    "cpu_decoder_rounded_apart": 5e-2,
    "hessian_vs_product": 1e-4,
    # 24 bits of the largest activation of a row, relative to the whole result
    "int8_weight_only_vs_float64": 1e-6,
    # scales of 0.1 to 10 folded into the module in front, in float32
    "logits_after_folding": 1e-4,
    "uniform_loss": 1e-6,
    "nats_padded_vs_alone": 1e-5,
    # one token through the cache against the whole sequence, tiny models
    "decode_cached_vs_uncached": 1e-5,
    "graphed_decode_vs_plain_gpu": 1e-3,  # fp32; another attention kernel, no GPU seen yet
    # rows of one pass against a row alone: products of more rows, keys gathered and padded; tiny models
    "decode_batched_vs_alone": 2e-5,
    # softmax of a few numbers
    "sampling_vs_hand": 1e-5,
    # NumPy's sums in another order than torch's, relative to the largest logit
    "guest_vs_torch": 1e-5,
    # the mean gradient over ranks is summed in another order, and ten steps of Adam carry that on: its first
    # steps move a weight by the sign of its gradient, however small; losses and norms of order 6, weights
    "zero3_loss_vs_one_process": 2e-4,
    "zero3_weights_vs_one_process": 1e-4,
    # ranks whose gradients are added in the reference's own order, unclipped: losses in fp32 roundings,
    # weights to the bit
    "zero3_bf16_loss_vs_one_process": 2e-6,
    # eight clipped steps of Adam after sums in another order; losses and norms of order 10, weights
    "experts_loss_vs_one_process": 2e-5,
    "experts_weights_vs_one_process": 4e-5,
    # losses of order 13 computed in bfloat16 beside fp32, and what eight steps at 0.01 make of it
    "experts_bf16_loss_vs_one_process": 5e-2,
    # central differences of a smooth function in float64, relative to the largest gradient
    "experts_gradient_vs_differences": 1e-7,
    # autocast of fp32 weights against weights gathered in bf16: norms and the residual stream round elsewhere
    "ranks_bf16_loss_vs_one_process": 5e-2,
    # float32 against six digits worked out by hand
    "align_by_hand": 2e-6,
    # one token through the cache against the whole sequence; log-probabilities of order 10, divided by 0.7
    "rollout_vs_teacher_forced": 2e-5,
    # the same formula on the same numbers
    "dpo_vs_trl": 1e-6,
    # rows of a wider batch: sums over a row in other blocks, divided by the batch's widths
    "align_padded_vs_alone": 1e-5,
}
