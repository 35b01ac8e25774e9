-- What inspection found of a model says which engine serves it; all until now were language models.
UPDATE models SET info = json_set(info, '$.engine', 'llm') WHERE info IS NOT NULL;
