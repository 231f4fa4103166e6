"""Reading and editing activations of Hugging Face models, through plain hooks or through TransformerBridge."""
