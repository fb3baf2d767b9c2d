"""Supervised fine-tuning: chats and logs to prompt-masked batches."""
