/* `supervisor box`: a container without a daemon, as root or as an ordinary user. */
#ifndef BOX_H
#define BOX_H

/* Makes namespaces and the overlay, as the settings say, and returns in PID 1 of the new box. */
void box_enter(void);
#endif
