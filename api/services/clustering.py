import numpy as np
DEFAULT_SAME_SPEAKER_COSINE = 0.5
def unit_rows(v):
    return v/np.maximum(np.linalg.norm(v,axis=1,keepdims=True),1e-12)
def cluster(*a,**k): raise NotImplementedError
