import * as React from 'react';

/**
 * The present in seconds since the epoch, told anew every second as long as `isNeeded`.
 */
export function useNow(isNeeded: boolean): number {
  const [now, setNow] = React.useState(() => Date.now() / 1000);
  React.useEffect(() => {
    if (!isNeeded) {
      return;
    }
    const tick = (): void => {
      if (!document.hidden) {
        setNow(Date.now() / 1000);
      }
    };
    tick();
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [isNeeded]);
  return now;
}
