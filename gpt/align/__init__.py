"""Alignment after fine-tuning: DPO, a reward model with PPO, GRPO, all through the one training loop."""
