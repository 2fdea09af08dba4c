/* Stands for libcudart and libcuda in tests: device memory is host memory that is kept track of.
   What a GPU would silently survive is an error here: a copy past a block's end, a free of what is
   no block, a block that is freed twice. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST 256
static struct { char *at; size_t size; } blocks[MOST];
static int streams;

static int find(const char *at) {
    for (int i = 0; i < MOST; i++)
        if (blocks[i].at && at >= blocks[i].at && at < blocks[i].at + blocks[i].size) return i;
    return -1;
}

size_t double_left_in(const char *at) {
    int i = find(at);
    return i < 0 ? 0 : blocks[i].at + blocks[i].size - at;
}

int double_live(void) {
    int count = streams;
    for (int i = 0; i < MOST; i++) count += blocks[i].at != NULL;
    return count;
}

int cudaMalloc(void **at, size_t size) {
    const char *most = getenv("DOUBLE_MEMORY");
    if (most && size > strtoul(most, NULL, 10)) return 2;
    for (int i = 0; i < MOST; i++)
        if (!blocks[i].at) {
            blocks[i].at = malloc(size);
            blocks[i].size = size;
            memset(blocks[i].at, 0xA5, size);
            *at = blocks[i].at;
            return 0;
        }
    return 2;
}

int cudaMallocHost(void **at, size_t size) { return cudaMalloc(at, size); }

int cudaFree(void *at) {
    int i = find(at);
    if (i < 0 || blocks[i].at != at) return 17;
    free(blocks[i].at);
    blocks[i].at = NULL;
    return 0;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if (!stream || kind < 1 || kind > 2) return 1;
    if (double_left_in(kind == 1 ? to : from) < size) return 17;
    memcpy(to, from, size);
    return 0;
}

int cudaFreeHost(void *at) { return cudaFree(at); }
int cudaEventCreate(void **event) { *event = calloc(1, sizeof(double)); streams++; return 0; }
int cudaEventDestroy(void *event) { free(event); streams--; return 0; }
int cudaEventRecord(void *event, void *stream) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *(double *)event = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
    return stream ? 0 : 1;
}
int cudaEventElapsedTime(float *ms, void *from, void *to) {
    *ms = (float)(*(double *)to - *(double *)from);
    return 0;
}
int cudaStreamCreate(void **stream) { *stream = malloc(1); streams++; return 0; }
int cudaStreamDestroy(void *stream) { free(stream); streams--; return 0; }
int cudaStreamSynchronize(void *stream) { return stream ? 0 : 1; }

const char *cudaGetErrorString(int code) {
    return code == 2 ? "out of memory" : code == 17 ? "invalid device pointer" : "invalid value";
}

int cuInit(unsigned flags) { return getenv("DOUBLE_NO_DRIVER") ? 100 : (int)flags; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 12060; return 0; }
int cuDriverGetVersion(int *version) {
    const char *driver = getenv("DOUBLE_DRIVER");
    *version = driver ? atoi(driver) : 12060;
    return 0;
}
int cudaDriverGetVersion(int *version) { return cuDriverGetVersion(version); }

int cuDeviceGetName(char *name, int size, int device) {
    (void)device;
    strncpy(name, "Double", size);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *sm = getenv("DOUBLE_SM"); /* such as 53 */
    int number = sm ? atoi(sm) : 87;
    (void)device;
    if (attribute == 16) number = 10 * atoi(getenv("DOUBLE_CORES") ? getenv("DOUBLE_CORES") : "8");
    *value = attribute == 76 ? number % 10 : number / 10;
    return 0;
}
