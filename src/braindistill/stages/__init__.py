"""One file a stage; each reads top to bottom: inputs → build → compute → write artifact."""
