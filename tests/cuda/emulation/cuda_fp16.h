// Beside cuda_runtime.h.
#pragma once

struct __half {
  unsigned short bits;
};
