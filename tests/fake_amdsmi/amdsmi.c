/* A libamd_smi.so that answers from a text file (FAKE_AMDSMI), read again at each call for a GPU's memory or address.
 * The functions that are not here only say that they are not supported (tests/support/amd.py adds them).
 *
 *   init CODE                   amdsmi_init fails with CODE; also: init hang, init crash
 *   gpu BDF NAME TOTAL USED     memory in MiB; the order is that of the handles
 *   unique HEX                  its unique id; without this line it has none
 *   hip N                       ROCm's number for it, else that of the handle
 *   bdf CODE | memory CODE | lists CODE | activity CODE | names CODE    this cannot be read; names: asic and enumeration
 *   busy N                      its activity in percent, else 37; 65535: not available
 *   edge N | hotspot N          its temperature there; -1, as without the line: there is no sensor
 *   hang SECONDS | crash        when its memory is asked for
 *   proc PID VRAM ALL           a process and its bytes of video memory and of all memory
 *   odd                         the name of the last process is no UTF-8, as any user can name one
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK 0
#define INVALID 1
#define NOT_SUPPORTED 2
#define SMALL 15
#define MOST 16

typedef struct { uint32_t pid; uint64_t vram, all; int odd; } process_t;
typedef struct {
  unsigned domain, bus, device, function, total, used, hip;
  char name[64];
  unsigned long long unique;
  int bdf_code, memory, lists, activity, names, busy, edge, hotspot, hang, crash, count;
  process_t procs[64];
} gpu_t;

static gpu_t gpus[MOST];
static int gpu_count, init_code;
static char init_word[16];

static void load(void) {
  FILE *file = fopen(getenv("FAKE_AMDSMI"), "r");
  char line[256];
  gpu_t *gpu = NULL;
  gpu_count = init_code = 0; init_word[0] = 0;
  while (file && fgets(line, sizeof line, file)) {
    int code; process_t one = {0};
    if (sscanf(line, "init %15s", init_word) == 1) init_code = atoi(init_word);
    else if (!strncmp(line, "gpu ", 4)) {
      gpu = &gpus[gpu_count++];
      memset(gpu, 0, sizeof *gpu);
      gpu->busy = 37; gpu->edge = gpu->hotspot = -1; gpu->hip = gpu_count - 1;
      sscanf(line, "gpu %x:%x:%x.%x %63s %u %u", &gpu->domain, &gpu->bus, &gpu->device, &gpu->function, gpu->name, &gpu->total, &gpu->used);
    } else if (!gpu) continue;
    else if (sscanf(line, "unique %llx", &gpu->unique) == 1) continue;
    else if (sscanf(line, "hip %u", &gpu->hip) == 1) continue;
    else if (sscanf(line, "bdf %d", &code) == 1) gpu->bdf_code = code;
    else if (sscanf(line, "memory %d", &code) == 1) gpu->memory = code;
    else if (sscanf(line, "lists %d", &code) == 1) gpu->lists = code;
    else if (sscanf(line, "activity %d", &code) == 1) gpu->activity = code;
    else if (sscanf(line, "names %d", &code) == 1) gpu->names = code;
    else if (sscanf(line, "busy %d", &code) == 1) gpu->busy = code;
    else if (sscanf(line, "edge %d", &code) == 1) gpu->edge = code;
    else if (sscanf(line, "hotspot %d", &code) == 1) gpu->hotspot = code;
    else if (sscanf(line, "hang %d", &code) == 1) gpu->hang = code;
    else if (!strncmp(line, "crash", 5)) gpu->crash = 1;
    else if (!strncmp(line, "odd", 3)) gpu->procs[gpu->count - 1].odd = 1;
    else if (sscanf(line, "proc %u %lu %lu", &one.pid, &one.vram, &one.all) == 3) gpu->procs[gpu->count++] = one;
  }
  if (file) fclose(file);
}

int amdsmi_init(uint64_t flags) {
  (void)flags; load();
  if (!strcmp(init_word, "hang")) sleep(600);
  if (!strcmp(init_word, "crash")) raise(SIGSEGV);
  return init_code;
}
/* One socket for each GPU, and one handle in each socket. */
int amdsmi_get_socket_handles(uint32_t *count, void **handles) {
  for (int i = 0; handles && i < gpu_count; i++) handles[i] = &gpus[i];
  *count = gpu_count;
  return OK;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles) {
  if (handles) handles[0] = socket;
  *count = 1;
  return OK;
}
int amdsmi_get_gpu_device_bdf(gpu_t *gpu, uint64_t *bdf) {
  load();
  *bdf = gpu->function | gpu->device << 3 | gpu->bus << 8 | (uint64_t)gpu->domain << 16;
  return gpu->bdf_code;
}

typedef struct {
  char market_name[256]; uint32_t vendor_id; char vendor_name[256]; uint32_t subvendor_id; uint64_t device_id;
  uint32_t rev_id; char serial[256]; uint32_t oam_id, units; unsigned char padding[4]; uint64_t version; uint32_t subsystem_id, reserved[21];
} __attribute__((packed)) asic_t;
int amdsmi_get_gpu_asic_info(gpu_t *gpu, asic_t *info) {
  memset(info, 0, sizeof *info);
  strcpy(info->market_name, gpu->name);
  if (gpu->unique) sprintf(info->serial, "%016llX", gpu->unique);
  else strcpy(info->serial, "ffffffffffffffff");
  return gpu->names;
}
typedef struct { uint32_t render, card, hsa_id, hip_id; char hip_uuid[256]; } order_t;
int amdsmi_get_gpu_enumeration_info(gpu_t *gpu, order_t *info) {
  memset(info, 0, sizeof *info);
  info->hip_id = gpu->hip;
  sprintf(info->hip_uuid, "GPU-%016llx", gpu->unique);
  return gpu->names;
}
int amdsmi_get_gpu_vram_usage(gpu_t *gpu, uint32_t *usage) {
  load();
  if (gpu->hang) sleep(gpu->hang);
  if (gpu->crash) raise(SIGSEGV);
  usage[0] = gpu->total; usage[1] = gpu->used;
  return gpu->memory;
}
int amdsmi_get_gpu_activity(gpu_t *gpu, uint32_t *usage) {
  memset(usage, 0, 64);
  usage[0] = gpu->busy;
  return gpu->activity;
}
int amdsmi_get_temp_metric(gpu_t *gpu, int sensor, int metric, int64_t *value) {
  *value = sensor == 0 ? gpu->edge : sensor == 1 ? gpu->hotspot : -1;
  return metric || *value < 0 ? NOT_SUPPORTED : OK;
}
typedef struct {
  char name[256]; uint32_t pid; unsigned char padding[4]; uint64_t mem, gfx, enc; uint32_t engines[12];
  uint64_t gtt, cpu, vram; uint32_t memories[10]; char container[256]; uint32_t occupancy, reserved[11];
} __attribute__((packed)) listed_t;
int amdsmi_get_gpu_process_list(gpu_t *gpu, uint32_t *count, listed_t *list) {
  if (gpu->lists) return gpu->lists;
  for (int i = 0; i < gpu->count && i < (int)*count; i++) {
    memset(&list[i], 0, sizeof list[i]);
    if (gpu->procs[i].odd) strcpy(list[i].name, "train\xff");
    list[i].pid = gpu->procs[i].pid; list[i].vram = gpu->procs[i].vram; list[i].mem = gpu->procs[i].all;
  }
  int small = (int)*count < gpu->count;
  *count = gpu->count;
  return small ? SMALL : OK;
}
