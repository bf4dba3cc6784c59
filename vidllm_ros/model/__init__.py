"""The Vid-LLM network, module by module as the paper names it."""
