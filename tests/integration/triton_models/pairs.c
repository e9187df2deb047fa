// A batching strategy of a user's own: no batch has more than two requests.
// The functions are those of triton/core/tritonbackend.h.
#include <stdbool.h>
#include <stdlib.h>

void* TRITONBACKEND_ModelBatchIncludeRequest(void* request, void* userp, bool* should_include)
{
  int* count = (int*)userp;
  *should_include = *count < 2;
  if (*should_include) { ++*count; }
  return 0;
}

void* TRITONBACKEND_ModelBatchInitialize(const void* batcher, void** userp)
{
  *userp = calloc(1, sizeof(int));
  return 0;
}

void* TRITONBACKEND_ModelBatchFinalize(void* userp)
{
  free(userp);
  return 0;
}

void* TRITONBACKEND_ModelBatcherInitialize(void** batcher, void* model) { return 0; }

void* TRITONBACKEND_ModelBatcherFinalize(void* batcher) { return 0; }
