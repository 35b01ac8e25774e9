-- What requests to engines that are no language models use.
ALTER TABLE token_usage ADD COLUMN audio_ms INTEGER NOT NULL DEFAULT 0; -- of sound that was listened to
ALTER TABLE token_usage ADD COLUMN num_images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE budget_holds ADD COLUMN audio_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE budget_holds ADD COLUMN num_images INTEGER NOT NULL DEFAULT 0;
