-- Events and minutes are rewritten less often: a merge takes ten parts of like size, not five, so that a row is
-- written again once for each tenfold growth of its part.

ALTER TABLE events MODIFY SETTING merge_selector_base = 10;
ALTER TABLE usage_minute MODIFY SETTING merge_selector_base = 10;
