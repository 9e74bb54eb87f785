/* What the kernel counts by user or not at all, and so must be dealt out by us: so much for each box. */
#ifndef BUDGETS_H
#define BUDGETS_H
#include <linux/seccomp.h>

/* Takes what this system call wants off its budget: 0, or the errno to answer it with. */
int budget_spend(const struct seccomp_notif *r);
/* Nothing runs any more: all that was taken has been given back. */
void budgets_renew(void);
#endif
