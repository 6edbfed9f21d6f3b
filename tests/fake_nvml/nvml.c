/* A libnvidia-ml.so.1 that answers from a text file (FAKE_NVML), read again at each call that counts.
 *
 *   device PATH                   nvmlInit opens this file and keeps it, as the library keeps /dev/nvidia*
 *   init CODE                     nvmlInit fails with CODE; also: init hang, init crash
 *   sticky                        what is said here stays said until the next nvmlInit
 *   slow MILLISECONDS             nvmlInit takes so long
 *   gpu UUID NAME TOTAL USED RESERVED    in MiB; the order is the index
 *   handle CODE                   the last gpu's handle cannot be had
 *   memory CODE                   its memory cannot be read; also memory2 CODE: by the second version only
 *   lists CODE                    its process lists cannot be read; also compute, graphics or mps CODE: one of them
 *   uuid CODE | name CODE | util CODE | bar1 CODE | migmode CODE    this cannot be read
 *   busy PERCENT                  its utilisation, else 37
 *   minor N                       it is /dev/nvidiaN, else N is its index; -1: the driver does not tell
 *   temp CODE                     its temperature cannot be read; warm DEGREES: it is this, else 41
 *   migmem CODE                   the memory of its instances cannot be read
 *   short N                       N times the list is said to be too short
 *   hang SECONDS | crash          when its memory is asked for; crash handle: when its handle is
 *   miglists CODE                 the process lists of its instances cannot be read, if an instance is asked
 *   mighandle NUMBER CODE         this instance exists, but its handle cannot be had
 *   migon                         MIG is on, also without an instance
 *   proc KIND PID MIB [GI CI]     KIND c, g or m; MIB -1: not available; on this instance, else the driver says none
 *   mig UUID GI CI TOTAL USED [PROFILE [NUMBER]]    an instance of it; - is no PROFILE; NUMBER is even, with gaps
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK 0
#define INVALID 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define SHORT 7
#define MIB (1024ULL * 1024ULL)
#define MOST 16

typedef struct { char kind; unsigned pid; long long mib; unsigned gi, ci; } proc_t;
typedef struct { char uuid[64], profile[32]; unsigned gi, ci, number; unsigned long long total, used; } mig_t;
typedef struct {
  char uuid[64], name[64];
  unsigned long long total, used, reserved;
  int handle, memory, memory2, lists, uuid_code, name_code, util, busy, minor, temp, warm, bar1, migmode, migmem, miglists, migon, too_short, hang, crash;
  int kinds[128]; /* CODE of one list, by the first letter of its kind */
  proc_t procs[64]; int count;
  int mighandle[16];
  mig_t migs[8]; int mig_count;
} gpu_t;

static gpu_t gpus[MOST];
static int gpu_count, init_code;
static char init_word[16];
static int sticky, slow;
static char device[256];

static void load(void) {
  static int short_left = -1;
  gpu_count = 0; init_code = 0; init_word[0] = 0;
  FILE *file = fopen(getenv("FAKE_NVML"), "r");
  char line[256];
  gpu_t *gpu = NULL;
  while (file && fgets(line, sizeof line, file)) {
    char word[16] = "", kind; int code, number, fields; long long mib; unsigned pid, gi, ci; mig_t mig;
    if (!strncmp(line, "sticky", 6)) sticky = 1;
    else if (sscanf(line, "slow %d", &code) == 1) slow = code;
    else if (sscanf(line, "device %255s", device) == 1) continue;
    else if (sscanf(line, "init %15s", word) == 1) { strcpy(init_word, word); init_code = atoi(word); }
    else if (!strncmp(line, "gpu ", 4)) {
      gpu = &gpus[gpu_count++];
      int left = gpu->too_short;
      memset(gpu, 0, sizeof *gpu);
      gpu->too_short = left;
      gpu->busy = 37; gpu->warm = 41; gpu->minor = gpu_count - 1;
      sscanf(line, "gpu %63s %63s %llu %llu %llu", gpu->uuid, gpu->name, &gpu->total, &gpu->used, &gpu->reserved);
    } else if (!gpu) continue;
    else if (sscanf(line, "handle %d", &code) == 1) gpu->handle = code;
    else if (sscanf(line, "memory2 %d", &code) == 1) gpu->memory2 = code;
    else if (sscanf(line, "memory %d", &code) == 1) gpu->memory = gpu->memory2 = code;
    else if (sscanf(line, "uuid %d", &code) == 1) gpu->uuid_code = code;
    else if (sscanf(line, "name %d", &code) == 1) gpu->name_code = code;
    else if (sscanf(line, "util %d", &code) == 1) gpu->util = code;
    else if (sscanf(line, "busy %d", &code) == 1) gpu->busy = code;
    else if (sscanf(line, "minor %d", &code) == 1) gpu->minor = code;
    else if (sscanf(line, "temp %d", &code) == 1) gpu->temp = code;
    else if (sscanf(line, "warm %d", &code) == 1) gpu->warm = code;
    else if (sscanf(line, "bar1 %d", &code) == 1) gpu->bar1 = code;
    else if (sscanf(line, "migmode %d", &code) == 1) gpu->migmode = code;
    else if (sscanf(line, "migmem %d", &code) == 1) gpu->migmem = code;
    else if (sscanf(line, "miglists %d", &code) == 1) gpu->miglists = code;
    else if (sscanf(line, "mighandle %d %d", &number, &code) == 2) gpu->mighandle[number] = code;
    else if (!strncmp(line, "migon", 5)) gpu->migon = 1;
    else if (sscanf(line, "compute %d", &code) == 1) gpu->kinds['c'] = code;
    else if (sscanf(line, "graphics %d", &code) == 1) gpu->kinds['g'] = code;
    else if (sscanf(line, "mps %d", &code) == 1) gpu->kinds['m'] = code;
    else if (sscanf(line, "lists %d", &code) == 1) gpu->lists = code;
    else if (sscanf(line, "short %d", &code) == 1) { if (short_left < 0) short_left = code; gpu->too_short = short_left; }
    else if (sscanf(line, "hang %d", &code) == 1) gpu->hang = code;
    else if (!strncmp(line, "crash handle", 12)) gpu->crash = 2;
    else if (!strncmp(line, "crash", 5)) gpu->crash = 1;
    else if ((fields = sscanf(line, "proc %c %u %lld %u %u", &kind, &pid, &mib, &gi, &ci)) >= 3)
      gpu->procs[gpu->count++] = (proc_t){kind, pid, mib, fields == 5 ? gi : ~0u, fields == 5 ? ci : ~0u};
    else if ((fields = sscanf(line, "mig %63s %u %u %llu %llu %31s %u", mig.uuid, &mig.gi, &mig.ci, &mig.total, &mig.used,
                              mig.profile, &mig.number)) >= 5) {
      if (fields < 6 || !strcmp(mig.profile, "-")) mig.profile[0] = 0;
      if (fields < 7) mig.number = 2 * gpu->mig_count;
      gpu->migs[gpu->mig_count++] = mig;
    }
  }
  if (file) fclose(file);
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags; sticky = slow = 0; load();
  if (device[0]) open(device, O_RDONLY);
  usleep(slow * 1000);
  if (!strcmp(init_word, "hang")) sleep(600);
  if (!strcmp(init_word, "crash")) raise(SIGSEGV);
  return init_code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the fake"; }

int nvmlDeviceGetCount_v2(unsigned *count) { if (!sticky) load(); *count = gpu_count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  if (index >= (unsigned)gpu_count) return INVALID;
  *handle = &gpus[index];
  if (gpus[index].crash == 2) raise(SIGSEGV);
  return gpus[index].handle;
}
static int is_mig(void *handle) { return (char *)handle < (char *)gpus || (char *)handle >= (char *)(gpus + MOST) ? 1 :
  ((char *)handle - (char *)gpus) % sizeof(gpu_t) != 0; }
static gpu_t *parent(void *mig) { return &gpus[((char *)mig - (char *)gpus) / sizeof(gpu_t)]; }
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
  snprintf(uuid, size, "%s", is_mig(handle) ? ((mig_t *)handle)->uuid : ((gpu_t *)handle)->uuid);
  return is_mig(handle) ? OK : ((gpu_t *)handle)->uuid_code;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
  if (is_mig(handle)) {
    mig_t *mig = handle;
    if (!mig->profile[0]) return NOT_SUPPORTED;
    snprintf(name, size, "%s MIG %s", parent(handle)->name, mig->profile);
    return OK;
  }
  snprintf(name, size, "%s", ((gpu_t *)handle)->name);
  return ((gpu_t *)handle)->name_code;
}

int nvmlDeviceGetMinorNumber(void *handle, unsigned *minor) {
  *minor = ((gpu_t *)handle)->minor;
  return ((gpu_t *)handle)->minor < 0 ? NOT_SUPPORTED : OK;
}

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;

static int memory(void *handle, unsigned long long *total, unsigned long long *used, unsigned long long *reserved) {
  if (is_mig(handle)) { mig_t *m = handle; *total = m->total * MIB; *used = m->used * MIB; *reserved = 0; return parent(m)->migmem; }
  gpu_t *gpu = handle;
  if (gpu->hang) sleep(gpu->hang);
  if (gpu->crash == 1) raise(SIGSEGV);
  *total = gpu->total * MIB; *used = gpu->used * MIB; *reserved = gpu->reserved * MIB;
  return gpu->memory;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *info) {
  unsigned long long reserved;
  int code = memory(handle, &info->total, &info->used, &reserved);
  info->used += reserved; info->free = info->total - info->used;
  return code;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *info) {
  int code = memory(handle, &info->total, &info->used, &info->reserved);
  info->free = info->total - info->used - info->reserved;
  return is_mig(handle) ? code : ((gpu_t *)handle)->memory2;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
  if (is_mig(handle)) return NOT_SUPPORTED;
  rates[0] = ((gpu_t *)handle)->busy; rates[1] = 5;
  return ((gpu_t *)handle)->util;
}
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *degrees) {
  *degrees = sensor ? 0 : ((gpu_t *)handle)->warm;
  return ((gpu_t *)handle)->temp;
}
int nvmlDeviceGetBAR1MemoryInfo(void *handle, unsigned long long *bar1) {
  bar1[0] = bar1[1] = 64 * 1024 * MIB; bar1[2] = 0;
  return ((gpu_t *)handle)->bar1;
}

typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
static int list(void *handle, char kind, unsigned *count, process_t *out) {
  unsigned found = 0, room = *count;
  mig_t *mig = is_mig(handle) ? handle : NULL;
  gpu_t *gpu = parent(handle);
  if (mig && gpu->miglists) return gpu->miglists;
  if (!mig && gpu->lists) return gpu->lists;
  if (!mig && gpu->kinds[(int)kind]) return gpu->kinds[(int)kind];
  for (int i = 0; i < gpu->count; i++) {
    if (gpu->procs[i].kind != kind) continue;
    if (mig && (gpu->procs[i].gi != mig->gi || gpu->procs[i].ci != mig->ci)) continue;
    if (out && found < room)
      out[found] = (process_t){gpu->procs[i].pid,
        gpu->procs[i].mib < 0 ? ~0ULL : (unsigned long long)gpu->procs[i].mib * MIB, gpu->procs[i].gi, gpu->procs[i].ci};
    found++;
  }
  *count = found;
  if (!found) return OK;
  if (!out || room < found) return SHORT;
  if (gpu->too_short > 0) { gpu->too_short--; return SHORT; }
  return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *n, process_t *out) { return list(h, 'c', n, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *n, process_t *out) { return list(h, 'g', n, out); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *h, unsigned *n, process_t *out) { return list(h, 'm', n, out); }

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
  gpu_t *gpu = handle;
  *current = *pending = gpu->migon || gpu->mig_count > 0;
  return gpu->migmode ? gpu->migmode : *current ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { (void)handle; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
  gpu_t *gpu = handle;
  if (index < 16 && gpu->mighandle[index]) return gpu->mighandle[index];
  for (int i = 0; i < gpu->mig_count; i++)
    if (gpu->migs[i].number == index) { *mig = &gpu->migs[i]; return OK; }
  return NOT_FOUND; /* gaps are normal */
}
typedef struct { unsigned sm, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices; unsigned long long mb; } attributes_t;
int nvmlDeviceGetAttributes_v2(void *handle, attributes_t *out) {
  mig_t *mig = handle;
  if (!is_mig(handle)) return NOT_SUPPORTED;
  *out = (attributes_t){14, 1, 0, 0, 0, 0, 1, 1, mig->total};
  return OK;
}
int nvmlDeviceGetGpuInstanceId(void *mig, unsigned *id) { *id = ((mig_t *)mig)->gi; return OK; }
int nvmlDeviceGetComputeInstanceId(void *mig, unsigned *id) { *id = ((mig_t *)mig)->ci; return OK; }
